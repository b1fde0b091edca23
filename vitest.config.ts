import { defineConfig } from 'vitest/config';

/** All packages in one run, so that one PostgreSQL serves every suite: `npx vitest run --project db`. */
export default defineConfig({
  test: {
    projects: ['packages/*/vitest.config.ts', 'apps/*/vitest.config.ts'],
  },
});

import { defineConfig } from 'vitest/config';

/** All packages in one run, so that one PostgreSQL serves every suite: `npx vitest run --project db`. */
export default defineConfig({
  test: {
    projects: ['packages/*/vitest.config.ts', 'apps/*/vitest.config.ts'],
    // Half of the time most files wait: for a handshake, a lease, a database. By default one core would stay idle.
    maxWorkers: 2,
  },
});

import { defineConfig } from 'tsdown';

/**
 * The router's type is inlined, so that a consumer installs no server. What stays an import is what a consumer has
 * anyway: `@trpc/client` and its own peer `@trpc/server`. The libraries behind the server's procedures are left outside
 * and then found unused; one that is used after all stays as an import, which the packaging test refuses.
 */
export default defineConfig({
  entry: ['src/index.ts'],
  tsconfig: '../../tsconfig.sdk.json',
  format: ['esm', 'cjs'],
  platform: 'neutral',
  target: 'es2022',
  dts: true,
  deps: { neverBundle: [/^(?!@vpn-api\/server\/router$|trpc-openapi$)[^./]/] },
  treeshake: { moduleSideEffects: false },
});

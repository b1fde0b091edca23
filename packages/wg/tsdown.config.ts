import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: ['src/index.ts', 'src/address.ts', 'src/diff.ts', 'src/conformance.ts', 'src/cli/main.ts'],
  tsconfig: 'tsconfig.build.json',
  format: 'esm',
  platform: 'node',
  dts: true,
  fixedExtension: false,
});

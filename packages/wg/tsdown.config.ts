import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    address: 'src/address.ts',
    diff: 'src/diff.ts',
    conformance: 'src/conformance.ts',
    testing: 'test/testing.ts',
    'cli/main': 'src/cli/main.ts',
  },
  tsconfig: 'tsconfig.build.json',
  format: 'esm',
  platform: 'node',
  dts: true,
  fixedExtension: false,
});

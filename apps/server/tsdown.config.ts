import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: ['src/main.ts', 'src/compose.ts', 'src/api/router.ts', 'src/cli/main.ts'],
  tsconfig: 'tsconfig.build.json',
  format: 'esm',
  platform: 'node',
  dts: { entry: ['src/compose.ts', 'src/api/router.ts'] },
  fixedExtension: false,
});

import { vitestPreset } from '../../tooling/vitest/preset.ts';

export default vitestPreset({ name: 'server', postgres: true });

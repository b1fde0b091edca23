import { vitestPreset } from '../../tooling/vitest/preset.ts';

// The real interface takes its time: wireguard-go starts, and a cut client needs 15 s to try a new handshake.
export default vitestPreset({ name: 'wg', testTimeoutMs: 90_000 });

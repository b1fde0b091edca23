import type { ViteUserConfig } from 'vitest/config';
export interface PresetOptions {
    /** Shown in front of each test file; the folder name of the package. */
    readonly name: string;
    /** Starts one PostgreSQL for the whole run and puts its address into `TEST_DATABASE_URL`. */
    readonly postgres?: boolean;
    /** One file after another: for packages whose tests own something of the machine, such as an interface name. */
    readonly serial?: boolean;
    /** Slower than this fails a test, in milliseconds. */
    readonly testTimeoutMs?: number;
}
/**
 * The vitest configuration that every package shares.
 *
 * @example
 * ```ts
 * // packages/db/vitest.config.ts
 * import { vitestPreset } from '../../tooling/vitest/preset.ts';
 *
 * export default vitestPreset({ name: 'db', postgres: true });
 * ```
 */
export declare function vitestPreset(options: PresetOptions): ViteUserConfig;

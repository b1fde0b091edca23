import { fileURLToPath } from 'node:url';
import type { ViteUserConfig } from 'vitest/config';

/**
 * Workspace packages are tested from their sources: no build between an edit and its test. Nothing but our own condition:
 * vitest hands these to the worker's Node, and with `import` among them `require('pg-pool')` would load an ES module.
 */
const conditions = ['@vpn-api/source'];

const postgresSetup = fileURLToPath(new URL('./postgres.ts', import.meta.url));

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
export function vitestPreset(options: PresetOptions): ViteUserConfig {
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions, externalConditions: conditions } },
    test: {
      name: options.name,
      include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
      environment: 'node',
      // A crash of a native module (better-sqlite3, bcrypt) must take down one file, not the runner: processes, not threads.
      pool: 'forks',
      fileParallelism: options.serial !== true,
      globalSetup: options.postgres === true ? [postgresSetup] : [],
      // Generous, since a busy two-core machine runs two files and a PostgreSQL at once; a hang is still found.
      testTimeout: options.testTimeoutMs ?? 30_000,
      hookTimeout: 60_000,
      teardownTimeout: 15_000,
      reporters: ['default'],
      silent: 'passed-only',
      restoreMocks: true,
      unstubEnvs: true,
    },
  };
}

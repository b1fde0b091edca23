import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { root } from './root.mjs';

const WANTED_MAJOR = 24;
const bin = join(root, 'node_modules', '.bin');

/** The Node that the project is built, tested and run on, whatever Node the machine has. */
export const node24 = join(bin, process.platform === 'win32' ? 'node.cmd' : 'node');

/**
 * The environment for everything we start: Node 24 and the project's own tools first in PATH, no telemetry.
 * Ends the process with one sentence when Node 24 is not there, since better-sqlite3 would crash an older one without a word.
 */
export function node24Environment(extra = {}) {
  const { stdout } = spawnSync(node24, ['--version'], { encoding: 'utf8' });
  if (!stdout?.startsWith(`v${WANTED_MAJOR}.`)) {
    console.error(`Node ${WANTED_MAJOR} is missing from node_modules: run "npm ci" without --ignore-scripts.`);
    process.exit(1);
  }
  const PATH = `${bin}${delimiter}${process.env.PATH ?? ''}`;
  return { ...process.env, PATH, TURBO_TELEMETRY_DISABLED: '1', TURBO_NO_UPDATE_NOTIFIER: '1', ...extra };
}

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './eventually.ts';

const run = promisify(execFile);

/** Where a change of the host is stopped: before the interface was touched, or after, while nobody knows yet. */
export type HoldPoint = 'before' | 'after';

/**
 * A `wg` that stops at a point of one's choice, seen by one process only: it is mounted over the real one in a mount
 * namespace. Nothing of the program under test has to know.
 */
export interface HeldWg {
  /** In front of the server's command. */
  readonly wrapper: readonly string[];
  hold(point: HoldPoint): Promise<void>;
  /** Resolves once a change has come to the point. */
  held(): Promise<void>;
  /** Lets it go on; `abandon` ends it there instead, as a reboot of the host would. */
  release(how?: 'abandon'): Promise<void>;
}

/** @param folder gone after the test, which also ends what is still held */
export async function makeHeldWg(folder: string): Promise<HeldWg> {
  const tool = await realpath((await run('/bin/sh', ['-c', 'command -v wg'])).stdout.trim());
  const [real, script] = [join(folder, 'wg-real'), join(folder, 'wg-held')];
  await copyFile(tool, real);
  await writeFile(script, heldScript(folder, real));
  for (const file of [real, script]) await chmod(file, 0o755);
  const mark = (name: string) => join(folder, name);
  return {
    wrapper: ['unshare', '--mount', '/bin/sh', '-c', `mount --bind ${script} ${tool} && exec "$@"`, 'sh'],
    hold: async (point) => {
      for (const name of ['held', 'abandon']) await rm(mark(name), { force: true });
      await writeFile(mark(`hold-${point}`), '');
    },
    held: async () => void (await eventually('a change of the host is held', 5_000, () => existsSync(mark('held')))),
    release: async (how) => {
      if (how === 'abandon') await writeFile(mark('abandon'), '');
      for (const name of ['hold-before', 'hold-after']) await rm(mark(name), { force: true });
    },
  };
}

function heldScript(folder: string, real: string): string {
  return `#!/bin/sh
wait_at() {
  [ -e '${folder}'/"$1" ] || return 0
  : >'${folder}/held'
  while [ -e '${folder}'/"$1" ]; do sleep 0.05; done
  [ ! -e '${folder}/abandon' ] || exit 1
}
case "$1" in addconf | set) ;; *) exec '${real}' "$@" ;; esac
wait_at hold-before
'${real}' "$@"
code=$?
wait_at hold-after
exit $code
`;
}

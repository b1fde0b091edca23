import { spawn } from 'node:child_process';
import { root } from './root.mjs';
import { node24Environment } from './with-node24.mjs';

/**
 * Runs one of the project's tools on Node 24.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ quiet?: boolean, env?: Record<string, string> }} [options] quiet: output is collected, not shown
 * @returns {Promise<{ ok: boolean, output: string, seconds: number }>}
 */
export function run(command, args, { quiet = false, env = {} } = {}) {
  const startedAt = performance.now();
  const child = spawn(command, args, {
    cwd: root,
    // Colours of a tool whose output is kept aside are for the terminal it may be shown on.
    env: node24Environment(quiet && !process.stdout.isTTY ? { ...env, NO_COLOR: '1' } : env),
    stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
  });
  const chunks = [];
  child.stdout?.on('data', (chunk) => chunks.push(chunk));
  child.stderr?.on('data', (chunk) => chunks.push(chunk));
  return new Promise((resolve) => {
    const finish = (ok, text = '') => {
      const output = Buffer.concat(chunks).toString('utf8') + text;
      resolve({ ok, output, seconds: (performance.now() - startedAt) / 1000 });
    };
    child.on('error', (error) => finish(false, `${command}: ${error.message}\n`));
    child.on('close', (code) => finish(code === 0));
  });
}

/** Builds what changed since the last time; shows nothing but errors. */
export async function build(...filters) {
  const notice = setTimeout(() => console.log('Building …'), 1500);
  const args = ['run', 'build', '--output-logs=errors-only', ...filters.map((filter) => `--filter=${filter}`)];
  const result = await run('turbo', args, { quiet: true });
  clearTimeout(notice);
  if (result.ok) return;
  console.error(result.output);
  console.error('The build failed: see the lines above.');
  process.exit(1);
}

/**
 * Runs a program in the foreground until it ends, passing signals on; its exit code becomes ours. A stop by Ctrl-C or SIGTERM is a
 * clean end, not an error, so that npm has nothing to complain about.
 */
export function runInForeground(command, args) {
  const child = spawn(command, args, { cwd: root, env: node24Environment(), stdio: 'inherit' });
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // npm repeats what the terminal has already sent to the whole group: one is enough.
      if (!stopping) child.kill(signal);
      stopping = true;
    });
  }
  child.on('error', (error) => {
    console.error(`${command}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on('close', (code) => {
    process.exitCode = code ?? (stopping ? 0 : 1);
  });
}

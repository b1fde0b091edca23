#!/usr/bin/env node
/** Below this the HTTP client does not load, and says so in many lines. */
const OLDEST = [22, 19] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  process.stderr.write(`vpn-wg needs Node ${OLDEST.join('.')} or newer; this is ${process.version}\n`);
  process.exitCode = 1;
} else {
  const { runCli } = await import('./cli.ts');
  // Whoever reads may have seen enough: `vpn-wg list … | head`.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  const { env, stdin, stdout, stderr } = process;
  process.exitCode = await runCli(process.argv.slice(2), { env, stdin, stdout, stderr });
}

// Makes a module of it: it waits at its top level.
export {};

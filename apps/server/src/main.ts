/**
 * The program. The version is checked before anything else is loaded: on an older Node the SQLite driver would end the
 * process without a word.
 */
import { setFlagsFromString } from 'node:v8';

// Half of V8's default for new objects, set before any are made: an idle server stays under 120 MB, which a small host
// shared with WireGuard notices, and a request is far from filling it.
setFlagsFromString('--max-semi-space-size=8');

const [major = 0] = process.versions.node.split('.').map(Number);

if (major < 24) {
  process.stderr.write(
    `VPN API needs Node 24 or newer and this is Node ${process.versions.node}: start it with "npm start", which brings its own.\n`,
  );
  process.exitCode = 1;
} else {
  const { run } = await import('./run.ts');
  process.exitCode = await run();
}

import { setFlagsFromString } from 'node:v8';

/**
 * The program. The version is checked before anything else is loaded: on an older Node the SQLite driver would end the
 * process without a word.
 */
const [major = 0] = process.versions.node.split('.').map(Number);

if (major < 24) {
  process.stderr.write(
    `VPN API needs Node 24 or newer and this is Node ${process.versions.node}: start it with "npm start", which brings its own.\n`,
  );
  process.exitCode = 1;
} else {
  // Loading modules makes garbage once. V8 would take it for the usual load and keep the young generation at the size it
  // grew to: 15 MB of an idle server, which a small host shared with WireGuard notices.
  setFlagsFromString('--semi-space-growth-factor=1');
  const { run } = await import('./run.ts');
  setFlagsFromString('--semi-space-growth-factor=2');
  process.exitCode = await run();
}

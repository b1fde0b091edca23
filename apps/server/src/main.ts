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
  const { run } = await import('./run.ts');
  process.exitCode = await run();
}

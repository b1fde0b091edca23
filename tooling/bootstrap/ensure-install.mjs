import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join, sep } from 'node:path';
import { root } from './root.mjs';

const OLDEST_NODE = 20;

/**
 * Installs from the lockfile when what is in node_modules is not what the lockfile says. npm itself records what it installed, as
 * its last act, so an interrupted install is seen as well as an outdated one.
 */
export function ensureInstall() {
  refuseOldNode();
  if (isInstalled()) return;
  console.log('Installing dependencies from the lockfile (about half a minute, once) …');
  const { command, args } = npmCommand();
  // With NODE_ENV=production npm would leave out the build tools. Nine packages would warn about Node 20, which only npm itself runs on.
  const options = ['ci', '--include=dev', '--loglevel=error', '--no-audit', '--no-fund'];
  const result = spawnSync(command, [...args, ...options], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  if (result.status !== 0) fail('npm ci failed: see the lines above, then try again.');
}

function refuseOldNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < OLDEST_NODE) fail(`Node ${OLDEST_NODE} or newer is needed to install; this is ${process.versions.node}.`);
}

function isInstalled() {
  const installed = readPackages(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return false;
  const wanted = readPackages(join(root, 'package-lock.json')) ?? {};
  return Object.entries(wanted).every(
    ([path, entry]) => !path.includes('node_modules/') || isSame(entry, installed[path]),
  );
}

/** Packages for other platforms are in the lockfile and not on the disk. */
function isSame(wanted, installed) {
  if (installed === undefined) return wanted.optional === true || wanted.devOptional === true;
  return wanted.version === installed.version && wanted.integrity === installed.integrity;
}

function readPackages(path) {
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** The npm that runs us; on a Node outside of node_modules, because npm ci empties that folder. */
function npmCommand() {
  const npmCli = process.env.npm_execpath;
  if (npmCli === undefined || !npmCli.endsWith('.js')) return { command: 'npm', args: [] };
  return { command: outsideNode(), args: [npmCli] };
}

function outsideNode() {
  if (!isInside(process.execPath)) return process.execPath;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => !isInside(folder));
  return folders.map((folder) => join(folder, 'node')).find((path) => existsSync(path)) ?? process.execPath;
}

function isInside(path) {
  return path.includes(`${sep}node_modules${sep}`);
}

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}

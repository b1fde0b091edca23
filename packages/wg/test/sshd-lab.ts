import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { makeSshKey } from './recording-sshd.ts';
import { wireguardLabProblem } from './wireguard-lab.ts';

const run = promisify(execFile);

export interface SshdLabOptions {
  /** The interface that the host kit is tied to by its forced command. */
  readonly interface: string;
}

/** Where and as whom to connect: what `SshTransport` needs. */
export interface SshTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly privateKey: string;
  readonly hostFingerprints: readonly string[];
}

/**
 * A real sshd on a loopback port with a throw-away host key, and a throw-away account that is not root but may run `wg`
 * by sudo. Needs root; removes everything when disposed.
 *
 * ```ts
 * await using wireguard = await startWireguardLab();
 * await using sshd = await startSshdLab({ interface: wireguard.interface });
 * await using driver = openSshDriver({ ...sshd.kit, interface: wireguard.interface, privilege: 'kit' });
 * ```
 */
export interface SshdLab extends AsyncDisposable {
  /** For `direct`. */
  readonly root: SshTarget;
  /** The account that is not root, for `sudo`. */
  readonly sudo: SshTarget;
  /** The same account by a key with the forced command of the host kit. */
  readonly kit: SshTarget;
  /** Its name. */
  readonly user: string;
  /** Where the host kit is installed. */
  readonly kitDirectory: string;
  /** Of all its host keys: ed25519, which the targets pin, ECDSA and RSA. */
  readonly fingerprints: readonly string[];
  /** A file of the lab that only root may change: scripts, keys. Absolute path. */
  install(name: string, content: string): Promise<string>;
  /** Lets a key in as the throw-away account. */
  authorize(publicKey: string): Promise<void>;
  /** Lets the throw-away account run something by sudo, without a password. */
  permit(command: string): Promise<void>;
  /** A port in front of sshd whose connections can be cut. Lives as long as the lab. */
  cuttable(): Promise<{ readonly port: number; readonly connections: () => number; cutAll(): void }>;
}

const TOOLS = [
  'sshd',
  'ssh',
  'ssh-keygen',
  'ssh-keyscan',
  'ssh-agent',
  'unshare',
  'sudo',
  'useradd',
  'userdel',
  'flock',
  'shellcheck',
];

/** Why the lab cannot run here, or null. */
export function sshdLabProblem(): string | null {
  if (process.getuid?.() !== 0) return 'sshd and throw-away accounts need root';
  const missing = TOOLS.filter((tool) => findTool(tool) === null);
  return missing.length === 0 ? wireguardLabProblem() : `not installed: ${missing.join(', ')}`;
}

/** For `describe.skipIf`: says loudly that tests are left out, and refuses to leave them out in CI. */
export function skipWithoutSshd(): boolean {
  const problem = sshdLabProblem();
  if (problem === null) return false;
  if (process.env.CI) throw new Error(`the SSH tests cannot run: ${problem}`);
  process.stderr.write(`\n*** SSH tests are SKIPPED: ${problem} ***\n\n`);
  return true;
}

export async function startSshdLab(options: SshdLabOptions): Promise<SshdLab> {
  await using stack = new AsyncDisposableStack();
  const id = randomBytes(3).toString('hex');
  const user = `wgt${id}`;
  const directory = await mkdtemp(join(tmpdir(), 'sshd-lab-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o755);
  await addAccount(user, stack);

  const kitDirectory = await installKit(directory);
  const sudoers = `/etc/sudoers.d/${user}`;
  stack.defer(() => rm(sudoers, { force: true }));
  // The second as the install guide of the kit has it.
  const permits = [findTool('wg') as string, `${kitDirectory}/wg-batch -i ${options.interface} *`];
  await writeSudoers(sudoers, user, permits);
  stack.defer(() => removeHostFiles(options.interface));

  const keys = { root: makeSshKey(), sudo: makeSshKey(), kit: makeSshKey() };
  const forced = `command="sudo -n ${kitDirectory}/wg-batch -i ${options.interface} \\"$SSH_ORIGINAL_COMMAND\\"",restrict`;
  const authorized = join(directory, 'authorized_keys');
  await mkdir(authorized);
  const accountKeys = [`${keys.sudo.publicKey}\n`, `${forced} ${keys.kit.publicKey}\n`];
  await writeFile(join(authorized, 'root'), `${keys.root.publicKey}\n`);
  await writeFile(join(authorized, user), accountKeys.join(''));

  const hostKeys = await makeHostKeys(directory);
  const port = await freePort();
  await startSshd({ directory, port, hostKeyFiles: hostKeys.map(({ file }) => file), authorized, user }, stack);
  const fingerprints = hostKeys.map(({ fingerprint }) => fingerprint);
  const host = { host: '127.0.0.1', port, hostFingerprints: fingerprints.slice(0, 1) };

  const owned = stack.move();
  return {
    root: { ...host, user: 'root', privateKey: keys.root.privateKey },
    sudo: { ...host, user, privateKey: keys.sudo.privateKey },
    kit: { ...host, user, privateKey: keys.kit.privateKey },
    user,
    kitDirectory,
    fingerprints,
    install: async (name, content) => {
      const path = join(directory, name);
      await writeFile(path, content, { mode: 0o755 });
      return path;
    },
    authorize: async (publicKey) => {
      accountKeys.push(`${publicKey}\n`);
      await writeFile(join(authorized, user), accountKeys.join(''));
    },
    permit: async (command) => {
      permits.push(command);
      await writeSudoers(sudoers, user, permits);
    },
    cuttable: () => startRelay(port, owned),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function addAccount(user: string, stack: AsyncDisposableStack): Promise<void> {
  // '*' is a password that nothing matches; '!' would lock the account, also for keys.
  await run('useradd', ['--no-create-home', '--home-dir', '/nonexistent', '--shell', '/bin/sh', '-p', '*', user]);
  stack.defer(async () => {
    // sshd's children for this account may take a moment to end.
    for (let tries = 1; !(await succeeds('userdel', [user])) && tries < 40; tries += 1) await sleep(50);
  });
}

/** As the install guide says: owned by root, nobody else may write. */
async function installKit(directory: string): Promise<string> {
  const source = fileURLToPath(new URL('../host', import.meta.url));
  const target = join(directory, 'kit');
  await mkdir(target);
  for (const name of ['wg-batch', 'wg-apply', 'wg-remove', 'wg-gen-key']) {
    await copyFile(join(source, name), join(target, name));
    await chmod(join(target, name), 0o755);
  }
  return target;
}

async function writeSudoers(path: string, user: string, commands: readonly string[]): Promise<void> {
  await writeFile(`${path}.new`, `${user} ALL=(root) NOPASSWD: ${commands.join(', ')}\n`, { mode: 0o440 });
  await run('mv', ['-f', `${path}.new`, path]);
}

/** What the kit leaves on a host for one interface. */
async function removeHostFiles(name: string): Promise<void> {
  const files = [`/etc/wireguard/${name}.peers`, `/etc/wireguard/${name}.keys`, `/run/wg-batch.${name}.lock`];
  for (const file of files) await rm(file, { recursive: true, force: true });
}

async function makeHostKeys(directory: string) {
  const kinds = [['ed25519'], ['ecdsa'], ['rsa', '-b', '2048']];
  return Promise.all(
    kinds.map(async (kind) => {
      const file = join(directory, `host_${kind[0]}`);
      await run('ssh-keygen', ['-q', '-N', '', '-f', file, '-t', ...kind]);
      const { stdout } = await run('ssh-keygen', ['-lf', file]);
      return { file, fingerprint: stdout.split(' ')[1] as string };
    }),
  );
}

interface SshdInput {
  readonly directory: string;
  readonly port: number;
  readonly hostKeyFiles: readonly string[];
  readonly authorized: string;
  readonly user: string;
}

/** Long enough for a busy machine. */
const START_MS = 15_000;

async function startSshd(input: SshdInput, stack: AsyncDisposableStack): Promise<void> {
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const configFile = join(input.directory, 'sshd_config');
  await writeFile(configFile, await sshdConfig(input));
  const log = join(input.directory, 'sshd.log');
  const child = spawn(findTool('sshd') as string, ['-D', '-f', configFile, '-E', log], { stdio: 'ignore' });
  const ended = once(child, 'close');
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  stack.defer(async () => {
    process.off('exit', kill);
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(2_000, undefined, { ref: false })]);
    kill();
  });
  const deadline = Date.now() + START_MS;
  while (!(await answers(input.port))) {
    if (Date.now() > deadline || child.exitCode !== null) {
      throw new Error(`sshd did not start: ${await readFile(log, 'utf8').catch(() => 'no log')}`);
    }
    await sleep(25);
  }
}

async function sshdConfig({ directory, port, hostKeyFiles, authorized, user }: SshdInput): Promise<string> {
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    ...hostKeyFiles.map((file) => `HostKey ${file}`),
    `PidFile ${join(directory, 'sshd.pid')}`,
    `AuthorizedKeysFile ${authorized}/%u`,
    `AllowUsers root ${user}`,
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    // Below the temporary directory, which everybody may write to.
    'StrictModes no',
    // Without PAM a locked account is refused, and root is locked on some machines.
    `UsePAM ${isRootLocked() ? 'yes' : 'no'}`,
    'LogLevel VERBOSE',
  ];
  // Newer servers keep away a client that failed; the tests fail on purpose.
  const penalties = 'PerSourcePenalties no';
  const probe = join(directory, 'probe_config');
  await writeFile(probe, `${[...lines, penalties].join('\n')}\n`);
  const isKnown = await succeeds(findTool('sshd') as string, ['-t', '-f', probe]);
  return `${[...lines, ...(isKnown ? [penalties] : [])].join('\n')}\n`;
}

function isRootLocked(): boolean {
  return /^root:!/m.test(readFileSync('/etc/shadow', 'utf8'));
}

async function startRelay(target: number, stack: AsyncDisposableStack) {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((client) => {
    connections += 1;
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  stack.defer(() => {
    cutAll();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, connections: () => connections, cutAll };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function succeeds(file: string, args: readonly string[]): Promise<boolean> {
  return run(file, [...args], { timeout: 30_000 }).then(
    () => true,
    () => false,
  );
}

function findTool(tool: string): string | null {
  const places = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  for (const place of places) {
    try {
      accessSync(`${place}/${tool}`, constants.X_OK);
      return `${place}/${tool}`;
    } catch {
      // Not here.
    }
  }
  return null;
}

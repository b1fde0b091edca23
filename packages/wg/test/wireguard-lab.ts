import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseHostCidr, parsePool, serverAddress } from '../src/address.ts';
import type { ObservedPeer } from '../src/driver.ts';
import { derivePublicKey, generateKeyPair, type PrivateKey, type PublicKey } from '../src/keys.ts';
import { openLocalDriver } from '../src/shell/shell-driver.ts';

const run = promisify(execFile);

export interface WireguardLabOptions {
  readonly privateKey?: PrivateKey;
  /** The server's interface gets the first address of each. Default `10.99.0.0/24`. */
  readonly poolV4?: string;
  readonly poolV6?: string;
  readonly listenPort?: number;
}

/**
 * A WireGuard server and a client that really exchange packets: two network namespaces joined by a cable, a
 * wireguard-go interface in each. Needs root; removes everything when disposed.
 *
 * ```ts
 * await using lab = await startWireguardLab();
 * await driver.apply([...], signal);            // a driver for lab.interface, in this process
 * await lab.connectClient(wgQuickText);
 * expect(await lab.ping(5_000)).toBe(true);
 * ```
 */
export interface WireguardLab extends AsyncDisposable {
  /** The server's interface. `wg` reaches it from this process too, by the control socket of wireguard-go. */
  readonly interface: string;
  readonly privateKey: PrivateKey;
  readonly publicKey: PublicKey;
  /** Where the client reaches the server: what an issued config must carry as Endpoint. */
  readonly endpoint: string;
  readonly listenPort: number;
  readonly poolV4: string;
  readonly poolV6: string | null;
  /** Brings up the client from an issued config, in place of the one before. */
  connectClient(wgQuickText: string): Promise<void>;
  /** Whether the server's tunnel address answers the client within so many milliseconds. */
  ping(ms: number): Promise<boolean>;
  /** The peers of the server's interface. */
  dump(): Promise<ObservedPeer[]>;
  /** Takes a peer off behind everybody's back. */
  removePeer(publicKey: PublicKey): Promise<void>;
  /** Puts a peer there that nobody ordered, with this address (default: none). */
  addForeignPeer(address?: string): Promise<PublicKey>;
}

/** Why the lab cannot run here, or null. */
export function wireguardLabProblem(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const missing = ['wg', 'wireguard-go', 'ip', 'ping'].filter((tool) => !isInstalled(tool));
  return missing.length === 0 ? null : `not installed: ${missing.join(', ')}`;
}

/** For `describe.skipIf`: says loudly that tests are left out, and refuses to leave them out in CI. */
export function skipWithoutWireguard(): boolean {
  const problem = wireguardLabProblem();
  if (problem === null) return false;
  if (process.env.CI) throw new Error(`the WireGuard tests cannot run: ${problem}`);
  process.stderr.write(`\n*** WireGuard tests are SKIPPED: ${problem} ***\n\n`);
  return true;
}

export async function startWireguardLab(options: WireguardLabOptions = {}): Promise<WireguardLab> {
  await using stack = new AsyncDisposableStack();
  const id = randomBytes(3).toString('hex');
  const [server, client] = [`wgl${id}a`, `wgl${id}b`];
  const listenPort = options.listenPort ?? 51820;
  const privateKey = options.privateKey ?? generateKeyPair().privateKey;
  const poolV4 = options.poolV4 ?? '10.99.0.0/24';

  await joinNamespaces(server, client, stack);
  const iface = `ws${id}`;
  await startInterface(server, iface, stack);
  await feed(
    ['wg', 'setconf', iface, '/dev/stdin'],
    `[Interface]\nPrivateKey = ${privateKey}\nListenPort = ${listenPort}\n`,
  );
  for (const pool of [poolV4, options.poolV6]) {
    if (pool !== undefined)
      await ip('-n', server, 'addr', 'add', serverAddress(parsePool(pool)), 'dev', iface, ...nodad(pool));
  }
  await ip('-n', server, 'link', 'set', iface, 'mtu', '1420', 'up');

  const clients = stack.use(new ClientSlot(client, `wc${id}`));
  const owned = stack.move();
  return {
    interface: iface,
    privateKey,
    publicKey: derivePublicKey(privateKey),
    endpoint: `${SERVER_WIRE}:${listenPort}`,
    listenPort,
    poolV4,
    poolV6: options.poolV6 ?? null,
    connectClient: (text) => clients.connect(text),
    ping: (ms) => pingUntil(client, serverAddress(parsePool(poolV4)).split('/')[0] as string, ms),
    dump: async () => {
      await using driver = openLocalDriver({ interface: iface });
      return await driver.list(AbortSignal.timeout(TOOL_MS));
    },
    removePeer: async (publicKey) => {
      await run('wg', ['set', iface, 'peer', publicKey, 'remove']);
    },
    addForeignPeer: async (address) => {
      const { publicKey } = generateKeyPair();
      await run('wg', ['set', iface, 'peer', publicKey, ...(address === undefined ? [] : ['allowed-ips', address])]);
      return publicKey;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** TEST-NET-1: the cable between the namespaces, unreachable from anywhere else. */
const SERVER_WIRE = '192.0.2.1';
const CLIENT_WIRE = '192.0.2.2';
const TOOL_MS = 30_000;
/** wireguard-go is up in some 50 ms; a loaded machine takes longer. */
const START_MS = 15_000;

async function joinNamespaces(server: string, client: string, stack: AsyncDisposableStack): Promise<void> {
  for (const name of [server, client]) {
    await ip('netns', 'add', name);
    stack.defer(() => ip('netns', 'del', name));
    await ip('-n', name, 'link', 'set', 'lo', 'up');
  }
  await ip('link', 'add', 'wire', 'netns', server, 'type', 'veth', 'peer', 'name', 'wire', 'netns', client);
  for (const [name, address] of [
    [server, SERVER_WIRE],
    [client, CLIENT_WIRE],
  ] as const) {
    await ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', 'wire');
    await ip('-n', name, 'link', 'set', 'wire', 'up');
  }
}

async function startInterface(namespace: string, name: string, stack: AsyncDisposableStack): Promise<void> {
  // In the foreground, so that the process is ours to end.
  const child = spawn('ip', ['netns', 'exec', namespace, 'wireguard-go', '-f', name], {
    stdio: 'ignore',
    env: { PATH: process.env.PATH, LOG_LEVEL: 'silent' },
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  stack.defer(async () => {
    process.off('exit', kill);
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(2_000, undefined, { ref: false })]);
    kill();
  });
  const deadline = Date.now() + START_MS;
  while (!(await succeeds('wg', ['show', name, 'listen-port']))) {
    if (Date.now() > deadline || child.exitCode !== null) throw new Error('wireguard-go did not start');
    await sleep(25);
  }
}

class ClientSlot implements AsyncDisposable {
  readonly #namespace: string;
  readonly #interface: string;
  #current: AsyncDisposableStack | undefined;

  constructor(namespace: string, iface: string) {
    this.#namespace = namespace;
    this.#interface = iface;
  }

  async connect(wgQuickText: string): Promise<void> {
    await this[Symbol.asyncDispose]();
    const [namespace, name] = [this.#namespace, this.#interface];
    const stack = new AsyncDisposableStack();
    this.#current = stack;
    await startInterface(namespace, name, stack);
    await feed(['wg', 'setconf', name, '/dev/stdin'], stripConfig(wgQuickText));
    for (const address of configList(wgQuickText, 'Address')) {
      await ip('-n', namespace, 'addr', 'add', address, 'dev', name, ...nodad(address));
    }
    const mtu = configList(wgQuickText, 'MTU')[0] ?? '1420';
    await ip('-n', namespace, 'link', 'set', name, 'mtu', mtu, 'up');
    for (const route of configList(wgQuickText, 'AllowedIPs')) {
      await ip(
        parseHostCidr(route).family === 6 ? '-6' : '-4',
        '-n',
        namespace,
        'route',
        'replace',
        route,
        'dev',
        name,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    await current?.disposeAsync();
  }
}

/** What `wg-quick strip` does: the keys that `wg` itself does not know are left out. */
function stripConfig(text: string): string {
  return text
    .split('\n')
    .filter((line) => !/^\s*(?:Address|DNS|MTU)\s*=/i.test(line))
    .join('\n');
}

function configList(text: string, key: string): string[] {
  const lines = text.split('\n').filter((line) => line.split('=')[0]?.trim() === key);
  return lines.flatMap((line) => line.slice(line.indexOf('=') + 1).split(',')).map((item) => item.trim());
}

/** Without this an IPv6 address is unusable for the second that duplicate detection takes. */
function nodad(address: string): string[] {
  return address.includes(':') ? ['nodad'] : [];
}

async function pingUntil(namespace: string, address: string, ms: number): Promise<boolean> {
  const deadline = Date.now() + ms;
  do {
    const left = Math.max(0.2, Math.min(1, (deadline - Date.now()) / 1000));
    if (await succeeds('ip', ['netns', 'exec', namespace, 'ping', '-n', '-c', '1', '-W', left.toFixed(1), address]))
      return true;
  } while (Date.now() < deadline);
  return false;
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', [...args], { timeout: TOOL_MS });
}

async function succeeds(file: string, args: readonly string[]): Promise<boolean> {
  return run(file, [...args], { timeout: TOOL_MS }).then(
    () => true,
    () => false,
  );
}

/** A pipe in front: Node gives its children sockets, and /dev/stdin cannot be opened when it is one. */
async function feed(command: readonly string[], input: string): Promise<void> {
  const running = run('/bin/sh', ['-c', 'cat | "$@"', 'sh', ...command], { timeout: TOOL_MS });
  running.child.stdin?.end(input);
  await running;
}

function isInstalled(tool: string): boolean {
  const places = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return places.some((place) => {
    try {
      accessSync(`${place}/${tool}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

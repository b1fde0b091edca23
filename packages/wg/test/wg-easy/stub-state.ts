import { randomUUID } from 'node:crypto';
import { addressAt, FIRST_PEER_INDEX, type Pool, parsePool } from '../../src/address.ts';
import { generateKeyPair, generatePresharedKey, type KeyPair, type PublicKey } from '../../src/keys.ts';

/** A client in the table of a wg-easy. v14 takes anything for a name, and knows no IPv6 and no expiry. */
export interface StubClient {
  id: string;
  name: unknown;
  enabled: boolean;
  address: string;
  ipv6Address: string;
  expiresAt: string | null;
  serverAllowedIps: string[];
  /** What else a v15 keeps for each client. */
  fields: Record<string, unknown>;
  oneTimeLink: { id: number; oneTimeLink: string; expiresAt: string; createdAt: string; updatedAt: string } | null;
  readonly publicKey: PublicKey;
  readonly privateKey: string;
  readonly presharedKey: string;
  readonly createdAt: Date;
  updatedAt: Date;
}

/** A peer as WireGuard has it, which is not always what the table says. */
export interface StubPeer {
  rx: number;
  tx: number;
  endpoint: string | null;
  lastHandshakeAt: Date | null;
}

export class SyncError extends Error {}

/** The table of clients, and the WireGuard interface that is synced from it. */
export class StubState {
  server: KeyPair = generateKeyPair();
  /** In the order of making. */
  clients = new Map<string, StubClient>();
  readonly peers = new Map<PublicKey, StubPeer>();
  readonly pool: Pool;
  readonly ipv6Base = 'fdcc:ad94:bacf:61a4::cafe';
  readonly endpoint = '192.0.2.1:51820';
  /** v14 writes its table with a plain write: two at once leave a file that cannot be read. */
  isFileCorrupt = false;
  #nextNumber = 1;
  #lastFound = { size: -1, index: 0 };
  /** Clients found to be readable, by what was read. */
  readonly #readable = new WeakMap<StubClient, string>();
  #version: 14 | 15;

  constructor(version: 14 | 15, pool: string) {
    this.#version = version;
    this.pool = parsePool(pool);
  }

  /** @throws Error when the pool is full */
  create(name: unknown, options: Partial<Pick<StubClient, 'address' | 'expiresAt'>> = {}): StubClient {
    const address = options.address ?? this.#freeAddress();
    const client: StubClient = {
      id: this.#version === 14 ? randomUUID() : String(this.#nextNumber),
      name,
      enabled: true,
      address,
      ipv6Address: `${this.ipv6Base}:${this.#offset(address).toString(16)}`,
      expiresAt: options.expiresAt ?? null,
      serverAllowedIps: [],
      fields: { ...NEW_FIELDS },
      oneTimeLink: null,
      ...generateKeyPair(),
      presharedKey: generatePresharedKey(),
      createdAt: new Date(),
      updatedAt: new Date(),
    };
    this.#nextNumber += 1;
    this.clients.set(client.id, client);
    return client;
  }

  /** Makes WireGuard what the table says. @throws SyncError when the config that comes of it cannot be read */
  sync(): void {
    const keys = new Set<PublicKey>();
    for (const client of this.clients.values()) {
      if (!client.enabled) continue;
      if (this.#version === 14 && !this.#isReadable(client)) throw new SyncError();
      keys.add(client.publicKey);
    }
    for (const key of this.peers.keys()) if (!keys.has(key)) this.peers.delete(key);
    for (const key of keys) {
      if (!this.peers.has(key)) this.peers.set(key, { rx: 0, tx: 0, endpoint: null, lastHandshakeAt: null });
    }
  }

  /** The start of the process: the table is read from the disk, and the interface is made anew. */
  restart(version: 14 | 15): void {
    if (this.#version === 14 && this.isFileCorrupt) {
      this.server = generateKeyPair();
      this.clients.clear();
    }
    this.isFileCorrupt = false;
    if (version !== this.#version) this.#migrate(version);
    this.peers.clear();
    this.sync();
  }

  /** A v15 that took over the backup of a v14: same keys, new ids. */
  #migrate(version: 14 | 15): void {
    this.#version = version;
    const clients = [...this.clients.values()];
    this.clients = new Map(
      clients.map((client) => {
        const id = version === 14 ? randomUUID() : String(this.#nextNumber++);
        return [id, { ...client, id }];
      }),
    );
  }

  #isReadable(client: StubClient): boolean {
    const text = `${String(client.name)} ${client.address}`;
    if (this.#readable.get(client) === text) return true;
    if (!isReadable(client)) return false;
    this.#readable.set(client, text);
    return true;
  }

  isInPool(address: string): boolean {
    const offset = this.#offset(address);
    return offset >= FIRST_PEER_INDEX && offset <= this.pool.lastIndex;
  }

  #offset(address: string): number {
    const value = address.split('.').reduce((sum, part) => sum * 256 + Number.parseInt(part, 10), 0);
    return value - Number(this.pool.value);
  }

  /** The lowest one. While clients are only added it is looked for above the last one found. */
  #freeAddress(): string {
    const taken = new Set([...this.clients.values()].map((client) => client.address));
    const start = this.clients.size === this.#lastFound.size ? this.#lastFound.index : FIRST_PEER_INDEX;
    for (let index = start; index <= this.pool.lastIndex; index += 1) {
      const address = addressAt(this.pool, index);
      if (taken.has(address)) continue;
      this.#lastFound = { size: this.clients.size + 1, index };
      return address;
    }
    throw new Error('Maximum number of clients reached.');
  }
}

/** What a v14 writes of a client, read as WireGuard's tool reads it. */
function isReadable({ name, address }: StubClient): boolean {
  const lines = `# Client: ${String(name)} (id)`.split('\n');
  const isConfig = lines.every((line) => line.startsWith('#') || line === '[Peer]' || /^\w+ = \S+$/.test(line));
  return isConfig && /^\d+\.\d+\.\d+\.\d+$/.test(address);
}

const NEW_FIELDS = {
  preUp: '',
  postUp: '',
  preDown: '',
  postDown: '',
  allowedIps: null,
  firewallIps: null,
  persistentKeepalive: 0,
  mtu: 1420,
  jC: 7,
  jMin: 10,
  jMax: 1000,
  i1: null,
  i2: null,
  i3: null,
  i4: null,
  i5: null,
  dns: null,
  serverEndpoint: null,
} as const;

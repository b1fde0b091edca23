import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import {
  type Engine,
  insertPayment,
  insertPeer,
  insertTariff,
  insertUser,
  listServers,
  openStore,
  type PaymentRow,
  type PeerRow,
  type ServerRow,
  type Tx,
  type UserRow,
} from '@vpn-api/db';
import { openTestStore, type TestStore } from '@vpn-api/db/testing';
import { generateKeyPair } from '@vpn-api/wg';
import { addressColumns } from '../../src/ops/peer-rows.ts';
import { ServerProcess, secrets, temporaryFolder } from '../e2e/server-process.ts';
import { signStandard } from '../harness.ts';
import { type RemoteHost, startRemoteHost } from './remote-host.ts';

export const MAIN = fileURLToPath(new URL('./faulty-main.ts', import.meta.url));
const AMOUNT_MINOR = 500;

/** One customer with a device, who has a payment open. */
export interface Order {
  readonly user: UserRow;
  readonly peer: PeerRow;
  readonly payment: PaymentRow;
}

/** A server in a process of its own that may be killed, its database, and a host that outlives it. */
export class CrashWorld implements AsyncDisposable {
  readonly store: TestStore;
  readonly remote: RemoteHost;
  readonly url: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #folder: string;
  readonly #cleanup: AsyncDisposableStack;
  /** Everything that was ordered so far. */
  readonly orders: Order[] = [];
  #process: ServerProcess | undefined;

  private constructor(parts: {
    readonly store: TestStore;
    readonly remote: RemoteHost;
    readonly folder: string;
    readonly port: number;
    readonly databaseUrl: string;
    readonly cleanup: AsyncDisposableStack;
  }) {
    this.store = parts.store;
    this.remote = parts.remote;
    this.url = `http://127.0.0.1:${parts.port}`;
    this.#folder = parts.folder;
    this.#cleanup = parts.cleanup;
    this.#environment = {
      ...secrets,
      NODE_ENV: 'test',
      PORT: String(parts.port),
      DATA_DIR: parts.folder,
      DATABASE_URL: parts.databaseUrl,
      DATABASE_POOL_SIZE: '8',
      DEV_INIT_DB: '1',
      BCRYPT_COST: '10',
      RATE_LIMITS: 'auth=0,default=0',
      LOG_LEVEL: 'error',
      WG_APPLY_ENABLED: '1',
      WG_POOL_V4: '10.64.0.0/16',
      WG_ENDPOINT: 'vpn.example.com:51820',
      REMOTE_HOST: parts.remote.url,
    };
  }

  /** On a database of its own, or on one that the test may kill. */
  static async open(engine: Engine, databaseUrl?: string): Promise<CrashWorld> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder()).path;
    const store = cleanup.use(await openDatabase(engine, databaseUrl));
    const remote = cleanup.use(await startRemoteHost());
    const parts = { store, remote, folder, port: await freePort(), databaseUrl: store.url };
    const world = new CrashWorld({ ...parts, cleanup: cleanup.move() });
    // The first start makes the row of the host.
    await world.start();
    await world.end('SIGTERM');
    return world;
  }

  /** Waits until the server listens. */
  async start(fault: Readonly<Record<string, string>> = {}): Promise<void> {
    this.launch(fault);
    await this.#process?.ready();
  }

  /** Starts the server and does not wait for it. */
  launch(fault: Readonly<Record<string, string>> = {}): ServerProcess {
    this.#process = new ServerProcess({ env: { ...this.#environment, ...fault }, cwd: this.#folder, main: MAIN });
    return this.#process;
  }

  get process(): ServerProcess {
    if (this.#process === undefined) throw new Error('no server was started');
    return this.#process;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    await this.process.end(signal);
  }

  async host(): Promise<ServerRow> {
    const [row] = await listServers(this.store);
    if (row === undefined) throw new Error('there is no server');
    return row;
  }

  /** Customers who will pay, each with a device that is not on the host yet. */
  async placeOrders(count: number): Promise<Order[]> {
    const server = await this.host();
    const first = this.orders.length;
    while (this.orders.length < first + count) {
      const size = Math.min(BATCH, first + count - this.orders.length);
      const batch = { server, from: this.orders.length, size };
      this.orders.push(...(await this.store.transaction((tx) => insertOrders(tx, batch))));
    }
    return this.orders.slice(first);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
    await this.#cleanup.disposeAsync();
  }
}

async function openDatabase(engine: Engine, url: string | undefined): Promise<TestStore> {
  if (url === undefined) return openTestStore(engine, { file: true, poolSize: 4 });
  const store = await openStore(url, { poolSize: 4, onConnectionError: () => {} });
  await store.migrate();
  return Object.assign(store, { url });
}

const BATCH = 250;

async function insertOrders(
  tx: Tx,
  { server, from, size }: { readonly server: ServerRow; readonly from: number; readonly size: number },
): Promise<Order[]> {
  const now = new Date().toISOString();
  const tariff = await insertTariff(
    tx,
    { name: randomUUID(), duration_days: 30, device_limit: 1, created_at: now },
    [],
  );
  const orders: Order[] = [];
  for (let n = 0; n < size; n += 1) {
    const user = await insertUser(tx, { email: `${randomUUID()}@example.com`, created_at: now });
    const payment = await insertPayment(tx, paymentOf(user, { tariffId: tariff.id, now }));
    const { publicKey } = generateKeyPair();
    const peer = await insertPeer(tx, {
      user_id: user.id,
      server_id: server.id,
      public_key: publicKey,
      submitted_key: publicKey,
      key_origin: 'client',
      ...addressColumns(server, 2 + from + n),
      allowed_ips: server.client_allowed_ips,
      created_at: now,
    });
    orders.push({ user, peer, payment });
  }
  return orders;
}

function paymentOf(user: UserRow, { tariffId, now }: { readonly tariffId: number; readonly now: string }) {
  const terms = {
    tariff_id: tariffId,
    tariff_name: 'Month',
    duration_days: 30,
    device_limit: 1,
    traffic_limit_bytes: null,
    grace_days: 0,
  };
  return {
    reference: randomUUID().replaceAll('-', ''),
    user_id: user.id,
    tariff_id: tariffId,
    provider: 'standard',
    status: 'pending',
    list_amount_minor: AMOUNT_MINOR,
    amount_minor: AMOUNT_MINOR,
    currency: 'USD',
    tariff_snapshot: JSON.stringify(terms),
    created_at: now,
    updated_at: now,
  } as const;
}

/** What the sender calls its event, the same at every repeat. */
export function eventId({ reference }: Pick<PaymentRow, 'reference'>): string {
  return `m_${reference}`;
}

/** One signed delivery; answers the HTTP status, or undefined when no answer came. */
export async function deliverOnce(url: string, { payment }: Order, timeoutMs = 10_000): Promise<number | undefined> {
  const data = {
    reference: payment.reference,
    provider_payment_id: `ch_${payment.reference}`,
    amount: '5.00',
    currency: payment.currency,
  };
  const body = JSON.stringify({ type: 'payment.completed', data });
  const seconds = Math.floor(Date.now() / 1000);
  const headers = {
    'content-type': 'application/json',
    ...signStandard(body, { seconds, id: eventId(payment) }),
  };
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(`${url}/payments/webhook/standard`, { method: 'POST', body, headers, signal });
    await response.text();
    return response.status;
  } catch {
    return undefined;
  }
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

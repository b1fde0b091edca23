import {
  type Engine,
  findPeer,
  insertPeriod,
  insertUser,
  listServers,
  type PeerRow,
  type ServerRow,
  type Tx,
  type UserRow,
} from '@vpn-api/db';
import { FakeHost, type FakeHostOptions, type PublicKey } from '@vpn-api/wg';
import { addSeconds, DAY_SECONDS } from '../../src/domain/instant.ts';
import { type CreatedPeer, createPeer } from '../../src/ops/create-peer.ts';
import { type JudgedPeer, judgePeer } from '../../src/ops/peer-access.ts';
import { removePeer } from '../../src/ops/remove-peer.ts';
import { type App, startApp } from '../harness.ts';

export const POOL = '10.8.0.0/24';

export interface PeriodOptions {
  readonly devices?: number;
  readonly days?: number;
  /** Traffic it gives; null is unlimited. */
  readonly limitBytes?: number | null;
}

export interface WorldOptions {
  readonly engine: Engine;
  readonly env?: Readonly<Record<string, string>>;
  readonly host?: FakeHostOptions;
}

/** A whole server whose one host is a fake, and shortcuts past registration and payment. */
export class World implements AsyncDisposable {
  readonly app: App;
  /** Of the server from the environment, and of every other one that has none in `hosts`. */
  readonly host: FakeHost;
  /** By id of server. */
  readonly hosts: Map<number, FakeHost>;
  #people = 0;

  private constructor({ app, host, hosts }: Pick<World, 'app' | 'host' | 'hosts'>) {
    this.app = app;
    this.host = host;
    this.hosts = hosts;
  }

  static async start({ engine, env, host: hostOptions }: WorldOptions): Promise<World> {
    const host = new FakeHost(hostOptions);
    const hosts = new Map<number, FakeHost>();
    const app = await startApp({
      engine,
      env: { WG_APPLY_ENABLED: '1', WG_ENDPOINT: 'vpn.example.com:51820', WG_POOL_V4: POOL, ...env },
      openDriver: ({ id }) => (hosts.get(id) ?? host).driver(),
    });
    await app.settled();
    return new World({ app, host, hosts });
  }

  get store() {
    return this.app.store;
  }

  get services() {
    return this.app.services;
  }

  /** A user with a period of some days from now. */
  async customer(options: PeriodOptions = {}): Promise<UserRow> {
    this.#people += 1;
    const created_at = this.app.clock.now();
    const user = await insertUser(this.store, { email: `customer${this.#people}@example.com`, created_at });
    await this.pay(user.id, options);
    return user;
  }

  /** Appends nothing clever: a period that starts now. */
  async pay(userId: number, { devices = 1, days = 30, limitBytes = null }: PeriodOptions = {}): Promise<void> {
    const now = this.app.clock.now();
    await this.store.transaction((tx) => insertPeriod(tx, periodRow({ userId, devices, days, limitBytes, now })));
    this.services.reconciler.wake();
  }

  create(
    user: UserRow,
    options: { readonly publicKey?: string; readonly serverId?: number } = {},
  ): Promise<CreatedPeer> {
    const caller = { kind: 'user', user, sessionId: 1 } as const;
    return createPeer(this.services, { caller, userId: user.id, ...options }, { source: undefined, beforeCommit });
  }

  /** A customer's device, and the host done with it. */
  async device(options: PeriodOptions = {}): Promise<Device> {
    const user = await this.customer(options);
    const { peer } = await this.create(user);
    await this.app.settled();
    return { user, peer };
  }

  async remove({ user, peer }: Device): Promise<void> {
    await removePeer(this.services, this.request({ user, peer }));
  }

  request({ user, peer }: Device) {
    return { peerId: peer.id, caller: { kind: 'user', user, sessionId: 1 }, source: undefined } as const;
  }

  async row(peerId: number): Promise<PeerRow> {
    const row = await findPeer(this.store, peerId);
    if (row === undefined) throw new Error(`no peer ${peerId}`);
    return row;
  }

  async judged(peerId: number): Promise<JudgedPeer> {
    return judgePeer(this.store, await this.row(peerId), this.app.clock.now());
  }

  /** What owners were told of one type, in order. */
  async told(type: string): Promise<Record<string, unknown>[]> {
    const events = this.store.kysely
      .selectFrom('outbox_events')
      .select('payload')
      .where('type', '=', type)
      .orderBy('id');
    return (await events.execute()).map(({ payload }) => JSON.parse(payload));
  }

  async server(): Promise<ServerRow> {
    const [server] = await listServers(this.store);
    if (server === undefined) throw new Error('no server');
    return server;
  }

  /** Keys of the peers that are on, in no order. */
  keysOnHost(): Set<string> {
    return new Set(this.host.peers().flatMap((peer) => (peer.enabled ? [peer.publicKey] : [])));
  }

  isOnHost(publicKey: string | null): boolean {
    return this.keysOnHost().has(publicKey ?? '');
  }

  addressesOf(publicKey: string | null): readonly string[] | undefined {
    return this.host.peers().find((peer) => peer.publicKey === publicKey)?.allowedIps;
  }

  deleteFromHost(publicKey: string | null): void {
    this.host.delete(publicKey as PublicKey);
  }

  /** Lets everything come to rest, moves time, and waits for what that set off. */
  async pass(seconds: number): Promise<void> {
    await this.app.settled();
    this.app.clock.advance(seconds);
    await this.app.settled();
  }

  async wake(): Promise<void> {
    this.services.reconciler.wake();
    await this.app.settled();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app[Symbol.asyncDispose]();
  }
}

export interface Device {
  readonly user: UserRow;
  readonly peer: PeerRow;
}

export const beforeCommit = async (_tx: Tx): Promise<void> => {};

let periods = 0;

interface PeriodRowOptions extends Required<PeriodOptions> {
  readonly userId: number;
  readonly now: string;
}

function periodRow({ userId, devices, days, limitBytes, now }: PeriodRowOptions) {
  periods += 1;
  return {
    user_id: userId,
    seq: periods,
    tariff_name: 'Month',
    price_minor: 999,
    currency: 'USD',
    duration_days: days,
    device_limit: devices,
    traffic_limit_bytes: limitBytes,
    grace_days: 0,
    source: 'admin',
    granted_at: now,
    length_seconds: days * DAY_SECONDS,
    starts_at: now,
    ends_at: addSeconds(now, days * DAY_SECONDS),
    created_at: now,
  } as const;
}

import {
  claimLease,
  type Engine,
  insertServer,
  type Lease,
  listPeerUsage,
  listPeriodsForUser,
  lockPeer,
  releaseLease,
  type ServerRow,
  updateServer,
} from '@vpn-api/db';
import { FakeHost, type ObservedPeer, type PublicKey } from '@vpn-api/wg';
import { sql } from 'kysely';
import { describe, expect, test, vi } from 'vitest';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../../src/domain/instant.ts';
import { placeGrant, type TariffTerms } from '../../src/domain/subscription.ts';
import { movePeer } from '../../src/ops/move-peer.ts';
import { wishesForServer } from '../../src/ops/plan-server.ts';
import { recordTraffic } from '../../src/ops/record-traffic.ts';
import { rotatePeer } from '../../src/ops/rotate-peer.ts';
import { insertPlacement, lockChain } from '../../src/ops/subscription-chain.ts';
import { activatePeer, deactivatePeer } from '../../src/ops/switch-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit, type Device, World, type WorldOptions } from './world.ts';

/** What a host shows of a peer. */
type Shown = Partial<Pick<ObservedPeer, 'rxBytes' | 'txBytes' | 'lastHandshakeAt' | 'endpoint'>>;

class TrafficWorld extends AsyncDisposableStack {
  readonly world: World;

  private constructor(world: World) {
    super();
    this.world = this.use(world);
  }

  static async begin(engine: Engine, options: Omit<WorldOptions, 'engine'> = {}): Promise<TrafficWorld> {
    return new TrafficWorld(await World.start({ engine, ...options }));
  }

  /** The host shows a peer so, and is compared. */
  async see({ peer }: Device, shown: Shown, host = this.world.host): Promise<void> {
    host.put({ publicKey: peer.public_key as PublicKey, ...shown });
    await this.world.wake();
  }

  async totals({ peer }: Device): Promise<[number, number]> {
    const { rx_bytes, tx_bytes } = await this.world.row(peer.id);
    return [rx_bytes, tx_bytes];
  }

  async days({ peer }: Device): Promise<[string, number, number][]> {
    const rows = await listPeerUsage(this.world.store, peer.id);
    return rows.map((row) => [row.day, row.rx_bytes, row.tx_bytes]);
  }

  /** Of each period, in the order of the chain. */
  async used({ user }: Device): Promise<number[]> {
    return (await listPeriodsForUser(this.world.store, user.id)).map((period) => period.used_bytes);
  }

  async reason({ peer }: Device): Promise<string> {
    return (await this.world.judged(peer.id)).access.reason;
  }

  /** A pass of another process that looks at the host now and may record later. */
  async look() {
    const { services, store, host, app } = this.world;
    const { id } = await this.world.server();
    const query = { serverId: id, installId: services.installId, now: app.clock.now() };
    return { wishes: await wishesForServer(store, query), observed: host.peers() };
  }

  async lease(): Promise<Lease> {
    const now = this.world.app.clock.now();
    const { id: serverId } = await this.world.server();
    const claim = { serverId, owner: 'test', now, until: addSeconds(now, 10), latest: addSeconds(now, 70) };
    const token = await claimLease(this.world.store, claim);
    if (token === undefined) throw new Error('the server is busy');
    return { serverId, token };
  }

  async secondServer(host: FakeHost): Promise<ServerRow> {
    const columns = { driver: 'local', keys: 'given', mode: 'apply', origin: 'api' } as const;
    const address = { pool_v4: '10.9.0.0/24', endpoint: 'second.example.com:51820' };
    const created_at = this.world.app.clock.now();
    const server = await insertServer(this.world.store, { ...columns, ...address, name: 'second', created_at });
    this.world.hosts.set(server.id, host);
    await this.world.wake();
    return server;
  }

  /** Another tariff that starts at once, as a customer buys it. */
  async switchTariff({ user }: Device, terms: Partial<TariffTerms>): Promise<void> {
    const now = this.world.app.clock.now();
    await this.world.store.transaction(async (tx) => {
      const chain = await lockChain(tx, user.id);
      const tariff = { tariff_id: null, tariff_name: 'Other', duration_days: 10, device_limit: 1, grace_days: 0 };
      const origin = { source: 'admin', payment_id: null, price_minor: 1, currency: 'USD', reason: null } as const;
      const grant = { terms: { ...tariff, traffic_limit_bytes: null, ...terms }, origin, now };
      await insertPlacement(tx, placeGrant(chain, { ...grant, apply: 'now' }), { userId: user.id, now });
    });
    await this.world.wake();
  }
}

describe.each(engines)('traffic on %s', (engine) => {
  test('is the sum over all restarts of the interface', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    await it.see(device, { rxBytes: 1000, txBytes: 5_000_000_000 });
    await it.see(device, { rxBytes: 1500, txBytes: 6_000_000_000 });
    expect(await it.totals(device)).toEqual([1500, 6_000_000_000]);
    await it.see(device, { rxBytes: 100, txBytes: 50 });
    await it.see(device, { rxBytes: 110, txBytes: 60 });
    expect(await it.totals(device)).toEqual([1610, 6_000_000_060]);
    expect(await it.used(device)).toEqual([6_000_001_670]);
  });

  test('survives that a peer is switched off and on, even if it shows more than before at once', async () => {
    await using it = await TrafficWorld.begin(engine, { host: { suspend: 'remove' } });
    const device = await it.world.device();
    await it.see(device, { rxBytes: 1000, txBytes: 1000 });
    await deactivatePeer(it.world.services, it.world.request(device));
    await it.world.app.settled();
    await activatePeer(it.world.services, it.world.request(device));
    await it.world.app.settled();
    await it.see(device, { rxBytes: 1200, txBytes: 1300 });
    expect(await it.totals(device)).toEqual([2200, 2300]);
  });

  test('is not counted again when a host that can disable a peer kept its counter', async () => {
    await using it = await TrafficWorld.begin(engine, { host: { suspend: 'disable' } });
    const device = await it.world.device();
    await it.see(device, { rxBytes: 1000, txBytes: 1000 });
    await deactivatePeer(it.world.services, it.world.request(device));
    await it.world.app.settled();
    await activatePeer(it.world.services, it.world.request(device));
    await it.world.app.settled();
    await it.see(device, { rxBytes: 1200, txBytes: 1300 });
    expect(await it.totals(device)).toEqual([1200, 1300]);
  });

  test('of a rotated peer is that of its old key and of its new one', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    await it.see(device, { rxBytes: 1000, txBytes: 0 });
    it.world.host.put({ publicKey: device.peer.public_key as PublicKey, rxBytes: 1700 });
    const { peer } = await rotatePeer(it.world.services, it.world.request(device), { publicKey: null, beforeCommit });
    await it.world.app.settled();
    expect(await it.totals(device)).toEqual([1700, 0]);
    await it.see({ ...device, peer }, { rxBytes: 2000 });
    expect(await it.totals(device)).toEqual([3700, 0]);
  });

  test('of a peer that is moved goes on from where it was, and again when it moves back', async () => {
    await using it = await TrafficWorld.begin(engine);
    const host = new FakeHost();
    const home = await it.world.server();
    const second = await it.secondServer(host);
    const device = await it.world.device();
    const caller = { kind: 'service', scopes: new Set(['peers:write']), keyId: 1, name: 'bot' } as const;
    const move = async (serverId: number) => {
      await movePeer(it.world.services, { peerId: device.peer.id, caller, source: undefined }, { serverId });
      await it.world.app.settled();
    };
    await it.see(device, { rxBytes: 1000, txBytes: 0 });
    await move(second.id);
    await it.see(device, { rxBytes: 5000, txBytes: 0 }, host);
    expect(await it.totals(device)).toEqual([6000, 0]);
    await move(home.id);
    await it.see(device, { rxBytes: 1100, txBytes: 0 });
    expect(await it.totals(device)).toEqual([7100, 0]);
    expect(await it.used(device)).toEqual([7100]);
  });

  test('of a peer that is removed still counts for its owner, up to the pass that takes it off', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    it.world.host.put({ publicKey: device.peer.public_key as PublicKey, rxBytes: 700 });
    await it.world.remove(device);
    await it.world.app.settled();
    expect(await it.used(device)).toEqual([700]);
  });

  test('of peers that are not ours, and of none at all, writes nothing', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    const foreign = it.world.host.addForeignPeer(['10.8.0.77/32']);
    it.world.host.put({ publicKey: foreign, rxBytes: 4000, txBytes: 4000 });
    await it.see(device, {});
    expect(await it.totals(device)).toEqual([0, 0]);
    expect(await it.days(device)).toEqual([]);
  });

  test('is kept by UTC day', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    const toMidnight = secondsBetween(it.world.app.clock.now(), '2026-11-23T00:00:00.000Z');
    await it.see(device, { rxBytes: 100, txBytes: 10 });
    await it.world.pass(toMidnight - 1);
    await it.see(device, { rxBytes: 150, txBytes: 15 });
    await it.world.pass(1);
    await it.see(device, { rxBytes: 160, txBytes: 15 });
    await it.see(device, { rxBytes: 190, txBytes: 20 });
    expect(await it.days(device)).toEqual([
      ['2026-11-22', 150, 15],
      ['2026-11-23', 40, 5],
    ]);
  });

  test('that two passes saw at the same time counts once', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    it.world.host.put({ publicKey: device.peer.public_key as PublicKey, rxBytes: 500, txBytes: 50 });
    const first = await it.look();
    const second = await it.look();
    const lease = await it.lease();
    await recordTraffic(it.world.services, lease, first);
    await recordTraffic(it.world.services, lease, second);
    await releaseLease(it.world.store, lease);
    await it.world.wake();
    expect(await it.totals(device)).toEqual([500, 50]);
    expect(await it.used(device)).toEqual([550]);
    expect(await it.days(device)).toEqual([['2026-11-22', 500, 50]]);
  });

  test('is not counted by a pass that lost its lease, and by the next one it is', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    it.world.host.put({ publicKey: device.peer.public_key as PublicKey, rxBytes: 500, txBytes: 50 });
    const plan = await it.look();
    const lost = await it.lease();
    await releaseLease(it.world.store, lost);
    const faster = await it.lease();
    await recordTraffic(it.world.services, lost, plan);
    await releaseLease(it.world.store, faster);
    expect([await it.totals(device), await it.used(device), await it.days(device)]).toEqual([[0, 0], [0], []]);
    await it.world.wake();
    expect(await it.totals(device)).toEqual([500, 50]);
  });

  test('tells when a peer was last seen, and since when at one address, without keeping the address', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    const { clock } = it.world.app;
    const sights: (readonly [string | null, string | null])[] = [];
    const see = async (endpoint: string | null, rxBytes: number) => {
      const lastHandshakeAt = endpoint === null ? null : clock.now();
      await it.see(device, { endpoint, rxBytes, lastHandshakeAt });
      const { last_handshake_at, endpoint_since } = await it.world.row(device.peer.id);
      sights.push([last_handshake_at, endpoint_since]);
      await it.world.pass(100);
      return lastHandshakeAt;
    };
    const first = await see('198.51.100.7:51820', 10);
    const again = await see('198.51.100.7:51820', 20);
    const moved = await see('203.0.113.9:40000', 30);
    await see(null, 5);
    expect(sights).toEqual([
      [first, first],
      [again, first],
      [moved, moved],
      [moved, moved],
    ]);
    const row = await it.world.row(device.peer.id);
    expect(row.endpoint_hash).toMatch(/^[\w-]{43}$/);
    expect(JSON.stringify(row)).not.toContain('203.0.113');
  });

  test('is answered with the peer and its status', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device();
    const now = it.world.app.clock.now();
    await it.see(device, { rxBytes: 70, txBytes: 7, lastHandshakeAt: now, endpoint: '198.51.100.7:51820' });
    const token = await it.world.app.apiKey(['peers:read']);
    const seen = { rx_bytes: 70, tx_bytes: 7, last_handshake_at: now };
    const peer = await it.world.app.rest('GET', `/vpn_peers/${device.peer.id}`, { token });
    expect(peer.body).toMatchObject(seen);
    const status = await it.world.app.rest('GET', `/vpn_peers/${device.peer.id}/status`, { token });
    expect(status.body).toMatchObject({ ...seen, endpoint_since: now, reason: 'active' });
  });

  test('of hundreds of peers at once is counted for each', async () => {
    await using it = await TrafficWorld.begin(engine, { env: { WG_POOL_V4: '10.8.0.0/16' } });
    const { user } = await it.world.device({ devices: 1201 });
    const { id: server_id } = await it.world.server();
    const ids = await addPeers(it.world, { user_id: user.id, server_id, count: 1200 });
    for (const { public_key, id } of ids) {
      it.world.host.put({ publicKey: public_key as PublicKey, rxBytes: id, txBytes: 1 });
    }
    await it.world.wake();
    const rows = await it.world.store.kysely.selectFrom('peers').select(['id', 'rx_bytes', 'tx_bytes']).execute();
    const added = new Set(ids.map(({ id }) => id));
    expect(rows.filter((row) => added.has(row.id) && (row.rx_bytes !== row.id || row.tx_bytes !== 1))).toEqual([]);
    const sum = ids.reduce((total, { id }) => total + id + 1, 0);
    expect(await it.used({ user } as Device)).toEqual([sum]);
  });
});

test('whoever changes a peer while its traffic is counted waits for nobody who waits for him', async () => {
  await using it = await TrafficWorld.begin('postgres');
  const { store, services } = it.world;
  const device = await it.world.device();
  it.world.host.put({ publicKey: device.peer.public_key as PublicKey, rxBytes: 500, txBytes: 50 });
  const plan = await it.look();
  const lease = await it.lease();
  const locked = Promise.withResolvers<void>();
  const counting = locked.promise.then(() => recordTraffic(services, lease, plan));
  await store.transaction(async (tx) => {
    await lockPeer(tx, device.peer.id);
    locked.resolve();
    const waiting = sql<{ n: number }>`select count(*) as n from pg_locks where not granted`;
    await vi.waitUntil(async () => ((await waiting.execute(tx.kysely)).rows[0]?.n ?? 0) > 0);
    const key = tx.kysely.selectFrom('host_peers').select('id').where('peer_id', '=', device.peer.id);
    await key.modifyEnd(sql`for no key update nowait`).executeTakeFirstOrThrow();
  });
  await counting;
  await releaseLease(store, lease);
  expect(await it.totals(device)).toEqual([500, 50]);
});

describe.each(engines)('a quota on %s', (engine) => {
  test('that is used up takes all peers of its user off every host at once, and nobody else', async () => {
    await using it = await TrafficWorld.begin(engine);
    const host = new FakeHost();
    const second = await it.secondServer(host);
    const device = await it.world.device({ devices: 2, limitBytes: 1000 });
    const { peer: other } = await it.world.create(device.user, { serverId: second.id });
    const neighbour = await it.world.device();
    await it.world.app.settled();
    expect(host.peers().map((peer) => peer.publicKey)).toEqual([other.public_key]);
    await it.see({ ...device, peer: other }, { rxBytes: 400, txBytes: 0 }, host);
    await it.see(device, { rxBytes: 0, txBytes: 599 });
    await it.see(neighbour, { rxBytes: 5000 });
    expect([await it.reason(device), await it.reason({ ...device, peer: other })]).toEqual(['active', 'active']);
    await it.see(device, { txBytes: 600 });
    expect(it.world.isOnHost(device.peer.public_key)).toBe(false);
    expect(host.peers()).toEqual([]);
    for (const { id } of [device.peer, other]) {
      const judged = await it.world.judged(id);
      expect(judged).toMatchObject({ state: 'suspended', access: { allowed: false, reason: 'quota_exceeded' } });
    }
    expect(it.world.isOnHost(neighbour.peer.public_key)).toBe(true);
    expect(await it.used(device)).toEqual([1000]);
  });

  test('comes back with the next period, at the second it begins', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device({ days: 30, limitBytes: 1000 });
    await it.world.pay(device.user.id, { days: 30, limitBytes: 1000 });
    await it.see(device, { rxBytes: 2000 });
    await it.world.pass(30 * DAY_SECONDS - 1);
    expect(it.world.isOnHost(device.peer.public_key)).toBe(false);
    await it.world.pass(1);
    expect(it.world.isOnHost(device.peer.public_key)).toBe(true);
    expect(await it.world.judged(device.peer.id)).toMatchObject({ state: 'active', access: { reason: 'active' } });
    await it.see(device, { rxBytes: 999 });
    expect(await it.used(device)).toEqual([2000, 999]);
    expect(await it.reason(device)).toBe('active');
    await it.see(device, { rxBytes: 1000 });
    expect(await it.reason(device)).toBe('quota_exceeded');
  });

  test('is not given twice by a switch of tariff and back: the rest of a period goes on with its count', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device({ days: 30, limitBytes: 1000 });
    await it.see(device, { rxBytes: 800 });
    await it.world.pass(5 * DAY_SECONDS);
    await it.switchTariff(device, { traffic_limit_bytes: 500, duration_days: 10 });
    await it.see(device, { rxBytes: 1200 });
    expect(await it.used(device)).toEqual([800, 400, 800]);
    expect(await it.reason(device)).toBe('active');
    await it.see(device, { rxBytes: 1300 });
    expect(await it.reason(device)).toBe('quota_exceeded');
    await it.world.pass(10 * DAY_SECONDS);
    expect(await it.reason(device)).toBe('active');
    await it.see(device, { rxBytes: 199 });
    expect(await it.reason(device)).toBe('active');
    await it.see(device, { rxBytes: 200 });
    expect(await it.reason(device)).toBe('quota_exceeded');
    expect(await it.used(device)).toEqual([800, 500, 1000]);
    await it.switchTariff(device, { traffic_limit_bytes: 10, duration_days: 1 });
    expect(await it.reason(device)).toBe('active');
    await it.world.pass(DAY_SECONDS);
    expect(await it.reason(device)).toBe('quota_exceeded');
  });

  test('of many peers is never taken for a mistake that waits for a person', async () => {
    await using it = await TrafficWorld.begin(engine);
    const { user, peer } = await it.world.device({ devices: 13, limitBytes: 1000 });
    for (let device = 0; device < 12; device += 1) await it.world.create(user);
    await it.world.app.settled();
    expect(it.world.keysOnHost().size).toBe(13);
    await it.see({ user, peer }, { rxBytes: 1000 });
    expect(it.world.keysOnHost().size).toBe(0);
    expect(await it.world.server()).toMatchObject({ brake_reason: null, pending_changes: 0 });
  });

  test('that is used up on a host which is only looked at is known, and nothing is done', async () => {
    await using it = await TrafficWorld.begin(engine);
    const device = await it.world.device({ limitBytes: 1000 });
    await updateServer(it.world.store, device.peer.server_id, { mode: 'observe' });
    await it.see(device, { rxBytes: 1000 });
    expect(await it.reason(device)).toBe('quota_exceeded');
    expect(it.world.isOnHost(device.peer.public_key)).toBe(true);
  });
});

/** Rows of peers that are on their host, without going through the API for each. */
async function addPeers(
  { store, host, app }: World,
  { user_id, server_id, count }: { readonly user_id: number; readonly server_id: number; readonly count: number },
): Promise<{ readonly id: number; readonly public_key: string | null }[]> {
  const created_at = app.clock.now();
  const added: { readonly id: number; readonly public_key: string | null }[] = [];
  for (let done = 0; done < count; done += 100) {
    const peers = Array.from({ length: 100 }, (_, index) => {
      const place = 1000 + done + index;
      const wg_ip = `10.8.${Math.floor(place / 256)}.${place % 256}/32`;
      const public_key = Buffer.alloc(32, `key ${place} `).toString('base64');
      const applied = { applied_version: 1, applied_state: 'present' } as const;
      return { user_id, server_id, public_key, wg_ip, address_index: place, key_origin: 'client', ...applied } as const;
    });
    const rows = await store.kysely
      .insertInto('peers')
      .values(peers.map((peer) => ({ ...peer, allowed_ips: '0.0.0.0/0', created_at })))
      .returning(['id', 'public_key', 'wg_ip'])
      .execute();
    const keys = rows.map(({ id, public_key }) => ({ peer_id: id, public_key: public_key ?? '' }));
    await store.kysely
      .insertInto('host_peers')
      .values(keys.map((key) => ({ ...key, server_id, created_at })))
      .execute();
    for (const { public_key, wg_ip } of rows) {
      host.put({ publicKey: public_key as PublicKey, allowedIps: [wg_ip as string], presharedKey: null });
    }
    added.push(...rows);
  }
  return added;
}

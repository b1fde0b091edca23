import { insertServer, insertUser, type PeerRow, updateServer } from '@vpn-api/db';
import { derivePublicKey, generateKeyPair, type PrivateKey } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { createPeer } from '../../src/ops/create-peer.ts';
import { placePeer } from '../../src/ops/place-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit, POOL, World } from '../reconcile/world.ts';

describe.each(engines)('a new peer on %s', (engine) => {
  test('has a public key that belongs to its private key (D14), and an address of its own (D16)', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 2 });
    const [first, second] = [await world.create(user), await world.create(user)];
    expect(derivePublicKey(first.privateKey as PrivateKey)).toBe(first.peer.public_key);
    expect([first.peer.wg_ip, second.peer.wg_ip]).toEqual(['10.8.0.2/32', '10.8.0.3/32']);
  });

  test('of a client with its own key has no private key here (D15)', async () => {
    await using world = await World.start({ engine });
    const { publicKey } = generateKeyPair();
    const { peer, privateKey } = await world.create(await world.customer(), { publicKey });
    expect(privateKey).toBeNull();
    expect(peer).toMatchObject({ public_key: publicKey, private_key_sealed: null, key_origin: 'client' });
  });

  test('of the old app gets a pair made here, and a repeat of its key the same peer', async () => {
    await using world = await World.start({ engine, env: { WG_IGNORE_CLIENT_KEYS: '1' } });
    const { publicKey } = generateKeyPair();
    const user = await world.customer();
    const { peer, privateKey } = await world.create(user, { publicKey });
    expect(privateKey).not.toBeNull();
    expect(peer).toMatchObject({ submitted_key: publicKey, key_origin: 'server' });
    expect(peer.public_key).not.toBe(publicKey);
    const repeated = await world.create(user, { publicKey });
    expect(repeated).toMatchObject({ peer: { id: peer.id }, privateKey: null });
  });

  test('needs a paid period that runs now (D7)', async () => {
    await using world = await World.start({ engine });
    const created_at = world.app.clock.now();
    const never = await insertUser(world.store, { email: 'never@example.com', created_at });
    await expect(world.create(never)).rejects.toMatchObject({ code: 'no_active_subscription' });
    const expired = await world.customer({ days: 1 });
    await world.pass(86_400);
    await expect(world.create(expired)).rejects.toMatchObject({ code: 'no_active_subscription' });
  });

  test('is refused to a service that acts on an admin, and for users who are gone', async () => {
    await using world = await World.start({ engine });
    const admin = await world.app.admin();
    await world.pay(admin.id);
    const caller = { kind: 'service', keyId: 1, name: 'bot', scopes: new Set(['peers:write']) } as const;
    const create = (userId: number) =>
      createPeer(world.services, { caller, userId }, { source: undefined, beforeCommit });
    await expect(create(admin.id)).rejects.toMatchObject({ code: 'not_allowed' });
    await expect(create(999)).rejects.toMatchObject({ code: 'user_not_found' });
  });

  test('with the key of another peer, of a server, or of a peer that must still go is refused', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 9 });
    const { peer } = await world.create(user);
    await world.app.settled();
    const takenBy = (publicKey: string | null) => world.create(user, { publicKey: publicKey ?? '' });
    await expect(takenBy(peer.public_key)).rejects.toMatchObject({ code: 'key_conflict' });
    await expect(takenBy((await world.server()).public_key)).rejects.toMatchObject({ code: 'key_conflict' });
    world.host.fault = 'down';
    await world.remove({ user, peer });
    await expect(takenBy(peer.public_key)).rejects.toMatchObject({ code: 'key_conflict' });
    world.host.fault = null;
    await world.pass(60);
    await expect(takenBy(peer.public_key)).resolves.toMatchObject({ peer: { public_key: peer.public_key } });
  });

  test('has a key that two users wanted at once for one of them only', async () => {
    await using world = await World.start({ engine });
    const users = [await world.customer(), await world.customer()];
    const { publicKey } = generateKeyPair();
    const results = await Promise.allSettled(users.map((user) => world.create(user, { publicKey })));
    expect(results.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    const refused = results.find((result) => result.status === 'rejected');
    expect(refused?.reason).toMatchObject({ code: 'key_conflict' });
  });

  test('and a repeat of its call at the same time are one peer', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 5 });
    const { publicKey } = generateKeyPair();
    const created = await Promise.all(Array.from({ length: 5 }, () => world.create(user, { publicKey })));
    expect(new Set(created.map(({ peer }) => peer.id)).size).toBe(1);
  });

  test('is one too many for the device limit however many ask at once', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 3 });
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => world.create(user)));
    const refused = results.filter((result) => result.status === 'rejected');
    expect(results.length - refused.length).toBe(3);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'device_limit_reached' });
  });

  test('is made a thousand times by 20 callers at once with a thousand different addresses', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V4: '10.8.0.0/16', WG_POOL_V6: 'fd00:8::/64' } });
    const users = await Promise.all(Array.from({ length: 20 }, () => world.customer({ devices: 50 })));
    const made = await Promise.all(users.map((user) => inTurn(50, () => world.create(user))));
    const peers = made.flat().map(({ peer }) => peer);
    expect(new Set(peers.map((peer) => peer.wg_ip)).size).toBe(1000);
    expect(new Set(peers.map((peer) => peer.wg_ip6)).size).toBe(1000);
    expect(peers.every((peer) => peer.wg_ip?.endsWith('/32') && peer.wg_ip6?.endsWith('/128'))).toBe(true);
    await world.app.settled();
    expect(world.keysOnHost()).toEqual(new Set(peers.map((peer) => peer.public_key)));
    const onHost = world.host.peers().map((peer) => [...peer.allowedIps]);
    expect(new Set(onHost)).toEqual(new Set(peers.map((peer) => [peer.wg_ip, peer.wg_ip6])));
  }, 60_000);
});

describe.each(engines)('the place of a new peer on %s', (engine) => {
  test('is the server that is asked for, or the least loaded one of the region', async () => {
    await using world = await World.start({ engine });
    const created_at = world.app.clock.now();
    const columns = { driver: 'local', keys: 'given', mode: 'apply', origin: 'api', created_at } as const;
    const seen = { last_seen_at: created_at };
    const other = await insertServer(world.store, {
      ...columns,
      ...seen,
      name: 'other',
      region: 'nl',
      pool_v4: '10.9.0.0/24',
    });
    const user = await world.customer({ devices: 9 });
    const { id } = await world.server();
    expect((await world.create(user, { serverId: other.id })).peer.server_id).toBe(other.id);
    expect((await world.create(user)).peer.server_id).toBe(id);
    expect((await world.create(user)).peer.server_id).toBe(id);
    await updateServer(world.store, id, { weight: 0 });
    expect((await world.create(user)).peer.server_id).toBe(other.id);
    await updateServer(world.store, other.id, { draining_at: created_at });
    expect((await world.create(user)).peer.server_id).toBe(id);
    await expect(world.create(user, { serverId: 999 })).rejects.toMatchObject({ code: 'server_not_found' });
  });

  test('is none when servers have as many peers as they may, however many ask at once', async () => {
    await using world = await World.start({ engine });
    await updateServer(world.store, (await world.server()).id, { capacity: 4 });
    const users = await Promise.all(Array.from({ length: 8 }, () => world.customer()));
    const results = await Promise.allSettled(users.map((user) => world.create(user)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(4);
  });
});

describe.each(engines)('an address on %s', (engine) => {
  test('is not to be had when the pool is full, and is free again ten minutes after the host confirmed', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V4: '10.8.0.0/29' } });
    const user = await world.customer({ devices: 20 });
    const peers = await inTurn(5, async () => (await world.create(user)).peer);
    await world.app.settled();
    await expect(world.create(user)).rejects.toMatchObject({ code: 'no_capacity' });
    const [, second] = peers as [PeerRow, PeerRow];
    world.host.fault = 'down';
    await world.remove({ user, peer: second });
    await world.app.settled();
    await world.pass(1200);
    await expect(world.create(user)).rejects.toMatchObject({ code: 'no_capacity' });
    world.host.fault = null;
    await world.pass(60);
    await world.pass(599);
    await expect(world.create(user)).rejects.toMatchObject({ code: 'no_capacity' });
    world.app.clock.advance(1);
    expect((await world.create(user)).peer.wg_ip).toBe(second.wg_ip);
  });

  test('of a peer that no host ever had is free as soon as it is removed', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V4: '10.8.0.0/30' } });
    const user = await world.customer();
    world.host.fault = 'down';
    const { peer } = await world.create(user);
    await world.app.settled();
    await world.remove({ user, peer });
    world.host.fault = null;
    await world.pass(60);
    expect((await world.create(user)).peer.wg_ip).toBe(peer.wg_ip);
  });

  test('goes up before it fills gaps', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V4: POOL } });
    const user = await world.customer({ devices: 20 });
    const peers = await inTurn(3, async () => (await world.create(user)).peer);
    await world.app.settled();
    await world.remove({ user, peer: peers[0] as PeerRow });
    await world.pass(3600);
    expect((await world.create(user)).peer.wg_ip).toBe('10.8.0.5/32');
  });

  test('is found among ten thousand as among a hundred', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V4: '10.8.0.0/16', WG_APPLY_ENABLED: '0' } });
    await crowd(world, { from: 0, to: 100 });
    const few = await placingTime(world);
    await crowd(world, { from: 100, to: 10_000 });
    const many = await placingTime(world);
    const { index } = await world.store.transaction((tx) => placePeer(tx, {}, world.app.clock.now()));
    expect(index).toBe(10_002);
    // Reading all places would take a hundred times as long.
    expect(many / few).toBeLessThan(20);
  }, 60_000);
});

async function inTurn<T>(count: number, work: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let turn = 0; turn < count; turn += 1) results.push(await work());
  return results;
}

/** Rows of peers of another user, without the work of making them one by one. */
/** Median of some choices of a place, which nobody takes, in milliseconds. */
async function placingTime({ store, app }: World): Promise<number> {
  const times = await inTurn(21, async () => {
    const started = performance.now();
    await store.transaction((tx) => placePeer(tx, {}, app.clock.now()));
    return performance.now() - started;
  });
  return times.toSorted((a, b) => a - b)[10] ?? 0;
}

async function crowd(world: World, { from, to }: { readonly from: number; readonly to: number }): Promise<void> {
  const created_at = world.app.clock.now();
  const { id: server_id } = await world.server();
  const { id: user_id } = await insertUser(world.store, { email: `crowd${from}@example.com`, created_at });
  const rows = Array.from({ length: to - from }, (_, n) => ({
    user_id,
    server_id,
    public_key: `key-${from + n}`,
    key_origin: 'server' as const,
    address_index: from + n + 2,
    allowed_ips: '0.0.0.0/0',
    created_at,
  }));
  for (let start = 0; start < rows.length; start += 500) {
    await world.store.kysely
      .insertInto('peers')
      .values(rows.slice(start, start + 500))
      .execute();
  }
}

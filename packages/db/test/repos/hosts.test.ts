import { describe, expect, test } from 'vitest';
import {
  changePeer,
  claimHostPeers,
  claimLease,
  countDevices,
  countPeers,
  countServers,
  findForeignPeer,
  findHighestAddress,
  findHostPeer,
  findPeer,
  findPeerBySubmittedKey,
  findServer,
  findServerByName,
  forgetForeignPeer,
  type HostPeerRow,
  holdsLease,
  inheritHostPeers,
  isAddressTaken,
  isPublicKeyTaken,
  isUniqueViolation,
  listAddressGaps,
  listDevicesOfUsers,
  listForeignPeers,
  listHostPeers,
  listPeers,
  listPeersForUser,
  listServerLoads,
  listServers,
  listUsersOfServer,
  lockPeer,
  lockServer,
  markGone,
  type PeerRow,
  type PeerSighting,
  recordApplied,
  recordFailed,
  recordLearned,
  recordServerFailed,
  recordServerSeen,
  recordSightings,
  releaseAllLeases,
  releaseLease,
  releaseRestedAddresses,
  removePeersOfUser,
  renewLease,
  replaceForeignPeers,
  retireHostPeers,
  retireHostPeersOfUser,
  type Store,
  snapshotForServer,
  updatePeer,
  updateServer,
  upsertEnvServer,
} from '../../src/index.ts';
import { engines, openTestStore } from '../../src/testing.ts';
import { addPayment, addPeer, addPeriod, addServer, addUser, at } from '../fixtures.ts';

describe.each(engines)('servers on %s', (engine) => {
  test('the one from the environment is made once and brought up to date, keeping what it learned', async () => {
    await using store = await openTestStore(engine);
    const described = {
      name: 'default',
      driver: 'none',
      keys: 'given',
      mode: 'observe',
      pool_v4: '10.8.0.0/24',
    } as const;
    const made = await upsertEnvServer(store, { ...described, created_at: at(0) });
    await updateServer(store, made.id, { public_key: 'learned' });
    const again = await upsertEnvServer(store, { ...described, mode: 'apply', created_at: at(9) });
    expect(again).toEqual({ ...made, public_key: 'learned', mode: 'apply' });
    expect(made.origin).toBe('env');
  });

  test('are found, locked, filtered and counted', async () => {
    await using store = await openTestStore(engine);
    const [a, b] = [await addServer(store, { region: 'de' }), await addServer(store, { region: 'nl' })];
    expect(await findServer(store, a.id)).toEqual(a);
    expect(await findServerByName(store, b.name)).toEqual(b);
    expect(await store.transaction((tx) => lockServer(tx, a.id))).toEqual(a);
    expect(await listServers(store, { region: 'nl' })).toEqual([b]);
    expect(await listServers(store, {}, { afterId: a.id })).toEqual([b]);
    expect(await countServers(store, { origin: 'api' })).toBe(2);
  });

  test('of many that want the lease one gets it, until it ends or is given back', async () => {
    await using store = await openTestStore(engine);
    const { id } = await addServer(store);
    const claim = (owner: string, seconds: number) =>
      claimLease(store, { serverId: id, owner, now: at(seconds), until: at(seconds + 30), latest: at(seconds + 60) });
    const claims = await Promise.all(['a', 'b', 'c', 'd'].map((owner) => claim(owner, 0)));
    expect(claims.filter((token) => token !== undefined)).toEqual([1]);
    expect(await claim('e', 29)).toBeUndefined();
    expect(await claim('e', 30)).toBe(2);
    await releaseLease(store, { serverId: id, token: 1 });
    expect(await claim('f', 31)).toBeUndefined();
    await releaseLease(store, { serverId: id, token: 2 });
    expect(await claim('f', 32)).toBe(3);
    await releaseAllLeases(store);
    expect(await claim('g', 33)).toBe(4);
  });

  test('a lease from a future that the clock has left again holds nobody up', async () => {
    await using store = await openTestStore(engine);
    const { id } = await addServer(store);
    const claim = (seconds: number) =>
      claimLease(store, {
        serverId: id,
        owner: 'a',
        now: at(seconds),
        until: at(seconds + 30),
        latest: at(seconds + 60),
      });
    expect(await claim(3600)).toBe(1);
    expect(await claim(3571)).toBeUndefined();
    expect(await claim(0)).toBe(2);
  });

  test('a lease is renewed by its holder while it lasts, and by nobody else', async () => {
    await using store = await openTestStore(engine);
    const { id } = await addServer(store);
    await claimLease(store, { serverId: id, owner: 'a', now: at(0), until: at(30), latest: at(60) });
    const renew = (token: number, seconds: number) =>
      renewLease(store, { serverId: id, token }, { now: at(seconds), until: at(seconds + 30) });
    expect(await renew(1, 20)).toBe(true);
    expect(await renew(2, 20)).toBe(false);
    expect(await renew(1, 50)).toBe(false);
  });

  test('a pass that lost its lease records nothing', async () => {
    await using store = await openTestStore(engine);
    const { id } = await addServer(store);
    await claimLease(store, { serverId: id, owner: 'a', now: at(0), until: at(30), latest: at(60) });
    await claimLease(store, { serverId: id, owner: 'b', now: at(30), until: at(60), latest: at(90) });
    const [old, current] = [
      { serverId: id, token: 1 },
      { serverId: id, token: 2 },
    ];
    const failure = { at: at(40), error: 'host unreachable', nextAttemptAt: at(50) };
    await recordServerFailed(store, old, failure);
    expect(await findServer(store, id)).toMatchObject({ attempts: 0, last_error: null });
    await recordServerFailed(store, current, failure);
    await recordServerFailed(store, current, failure);
    expect(await findServer(store, id)).toMatchObject({
      attempts: 2,
      last_error: 'host unreachable',
      next_attempt_at: at(50),
    });
    const pass = { pendingChanges: 3, brakeReason: 'too many', driverVersion: '15' };
    await recordServerSeen(store, current, { at: at(55), ...pass });
    const seen = { pending_changes: 3, brake_reason: 'too many', driver_version: '15' };
    expect(await findServer(store, id)).toMatchObject({
      ...seen,
      ...{ last_seen_at: at(55), attempts: 0, last_error: null },
    });
    expect(await store.transaction((tx) => holdsLease(tx, current))).toBe(true);
    expect(await store.transaction((tx) => holdsLease(tx, old))).toBe(false);
  });

  test('the load counts live peers and dates the oldest change that waits', async () => {
    await using store = await openTestStore(engine);
    const { user, server } = await place(store);
    await addPeer(store, { userId: user.id, serverId: server.id }, { pending_since: at(7) });
    await addPeer(store, { userId: user.id, serverId: server.id }, { pending_since: at(5), removed_at: at(5) });
    expect(await listServerLoads(store)).toEqual([{ server_id: server.id, peers: 1, oldest_pending_since: at(5) }]);
  });
});

describe.each(engines)('peers on %s', (engine) => {
  test('a live key and an address on a server belong to one peer', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const peer = await addPeer(store, ids, { public_key: 'k', address_index: 2 });
    const sameKey = addPeer(store, ids, { public_key: 'k', address_index: 3 });
    expect(isUniqueViolation(await sameKey.catch((error: unknown) => error))).toBe('peers(public_key)');
    const sameAddress = addPeer(store, ids, { address_index: 2 });
    expect(isUniqueViolation(await sameAddress.catch((error: unknown) => error))).toBe(
      'peers(server_id, address_index)',
    );
    await store.transaction((tx) => updatePeer(tx, peer.id, { removed_at: at(1) }));
    expect(await addPeer(store, ids, { public_key: 'k', address_index: 3 })).toMatchObject({ public_key: 'k' });
  });

  test('removed ones are hidden from their owner and free their place among the devices', async () => {
    await using store = await openTestStore(engine);
    const { ids, user, server } = await place(store);
    const [kept, removed] = [await addPeer(store, ids, { deactivated_at: at(1) }), await addPeer(store, ids)];
    expect(await countDevices(store, user.id)).toBe(2);
    const gone = await store.transaction((tx) => changePeer(tx, removed.id, { removed_at: at(2), at: at(2) }));
    expect(await countDevices(store, user.id)).toBe(1);
    expect(await listPeersForUser(store, user.id)).toEqual([kept]);
    expect(await listDevicesOfUsers(store, [user.id])).toEqual([kept]);
    expect(await listPeers(store, { userId: user.id })).toEqual([kept]);
    expect(await listPeers(store, { serverId: server.id, which: 'all' })).toEqual([kept, gone]);
    expect(await countPeers(store, { userId: user.id })).toBe(1);
    expect(await listUsersOfServer(store, server.id)).toEqual([user.id]);
  });

  test('the peer of a submitted key is found for its user while it lives', async () => {
    await using store = await openTestStore(engine);
    const { ids, user } = await place(store);
    const peer = await addPeer(store, ids, { submitted_key: 's' });
    expect(await findPeerBySubmittedKey(store, user.id, 's')).toEqual(peer);
    expect(await findPeerBySubmittedKey(store, (await addUser(store)).id, 's')).toBeUndefined();
    await store.transaction((tx) => updatePeer(tx, peer.id, { removed_at: at(1) }));
    expect(await findPeerBySubmittedKey(store, user.id, 's')).toBeUndefined();
  });

  test('a key is taken by a live peer, a tombstone on any host, a foreign peer or a server', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    await updateServer(store, server.id, { public_key: 'servers' });
    const peer = await addPeer(store, ids, { public_key: 'live' });
    const tombstone = await claimKey(store, peer, 'tombstone');
    expect(await findHostPeer(store, server.id, 'tombstone')).toEqual(tombstone);
    expect(await findHostPeer(store, server.id, 'live')).toBeUndefined();
    await store.transaction((tx) => updatePeer(tx, peer.id, { public_key: 'live' }));
    await retireHostPeers(store, peer.id, { at: at(1), exceptKey: 'live' });
    const foreign = [{ public_key: 'foreign', allowed_ips: '' }];
    await store.transaction((tx) => replaceForeignPeers(tx, { serverId: server.id, peers: foreign, at: at(1) }));
    const taken = ['live', 'tombstone', 'servers', 'foreign'];
    for (const key of taken) expect(await isPublicKeyTaken(store, key)).toBe(true);
    const isTakenHere = (key: string) => isPublicKeyTaken(store, key, { exceptForeignOn: server.id });
    for (const key of taken) expect(await isTakenHere(key)).toBe(key !== 'foreign');
    const elsewhere = { exceptForeignOn: server.id + 1 };
    expect(await isPublicKeyTaken(store, 'foreign', elsewhere)).toBe(true);
    await store.transaction((tx) => markGone(tx, [tombstone?.id ?? 0], at(2)));
    expect(await isPublicKeyTaken(store, 'tombstone')).toBe(false);
  });

  test('a change wants a new version, forgets failures and keeps the start of the waiting', async () => {
    await using store = await openTestStore(engine);
    const { ids, user } = await place(store);
    const peer = await addPeer(store, ids);
    const change = (seconds: number) =>
      store.transaction((tx) => changePeer(tx, peer.id, { device_name: 'x', at: at(seconds) }));
    expect(await change(5)).toMatchObject({ wanted_version: 2, pending_since: at(5), device_name: 'x' });
    await recordFailed(store, [{ id: peer.id, version: 2, state: 'none', error: 'no', nextAttemptAt: at(60) }]);
    expect(await change(6)).toMatchObject({
      wanted_version: 3,
      pending_since: at(5),
      last_error: null,
      attempts: 0,
      next_attempt_at: null,
    });
    const [removed] = await store.transaction((tx) => removePeersOfUser(tx, user.id, at(8)));
    expect(removed).toMatchObject({ removed_at: at(8), wanted_version: 4, pending_since: at(5) });
  });

  test('what a pass applied is recorded for the version it worked from', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const [same, changed, newer] = [
      await addPeer(store, ids, { pending_since: at(0) }),
      await addPeer(store, ids, { pending_since: at(0), wanted_version: 3 }),
      await addPeer(store, ids, { wanted_version: 9, applied_version: 9, applied_state: 'present' }),
    ];
    const here = { serverId: ids.serverId };
    const applied = [
      { ...here, id: same.id, version: 1, state: 'present' },
      { ...here, id: changed.id, version: 2, state: 'suspended' },
      { ...here, id: newer.id, version: 8, state: 'absent' },
    ] as const;
    expect(await recordApplied(store, applied, at(5))).toBe(2);
    const recorded = { applied_version: 1, applied_state: 'present', applied_at: at(5), pending_since: null };
    expect(await findPeer(store, same.id)).toMatchObject(recorded);
    expect(await findPeer(store, changed.id)).toMatchObject({ applied_version: 2, pending_since: at(0) });
    expect(await findPeer(store, newer.id)).toEqual(newer);
    expect(await recordApplied(store, [], at(6))).toBe(0);
  });

  test('what a pass applied says nothing of a peer that was moved meanwhile', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const [peer, other] = [await addPeer(store, ids), await addServer(store)];
    const change = { server_id: other.id, applied_state: 'none', at: at(1) } as const;
    const moved = await store.transaction((tx) => changePeer(tx, peer.id, change));
    const stale = { id: peer.id, serverId: ids.serverId, version: 1, state: 'present' } as const;
    expect(await recordApplied(store, [stale], at(2))).toBe(0);
    expect(await findPeer(store, peer.id)).toEqual(moved);
  });

  test('what was not tried is no failure, and takes back all the same that the host has it', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const peer = await addPeer(store, ids, { wanted_version: 3, applied_version: 3, applied_state: 'present' });
    await recordFailed(store, [{ id: peer.id, version: 3, state: 'none', error: null, nextAttemptAt: null }]);
    const recorded = {
      applied_state: 'none',
      applied_version: 2,
      last_error: null,
      attempts: 0,
      next_attempt_at: null,
    };
    expect(await findPeer(store, peer.id)).toMatchObject(recorded);
  });

  test('what a host tells about itself never replaces what a person said', async () => {
    await using store = await openTestStore(engine);
    const { id } = await addServer(store);
    const told = { public_key: 'host key', endpoint: null };
    expect(await recordLearned(store, id, told)).toMatchObject(told);
    await updateServer(store, id, { endpoint: 'said:1' });
    const again = { public_key: 'another', endpoint: 'told:2' };
    expect(await recordLearned(store, id, again)).toMatchObject({ public_key: 'host key', endpoint: 'said:1' });
  });

  test('a server has as its own, and gone, every key that removed servers tried on the same host', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const [first, second, next] = [ids.serverId, (await addServer(store)).id, (await addServer(store)).id];
    const claim = async (serverId: number, key: string) =>
      claimKey(store, await addPeer(store, { ...ids, serverId }), key);
    await claim(first, 'a');
    await claim(second, 'b');
    const to = { from: [first, second], to: next, at: at(9) };
    for (let again = 0; again < 2; again += 1) await store.transaction((tx) => inheritHostPeers(tx, to));
    await store.transaction((tx) => inheritHostPeers(tx, { ...to, from: [] }));
    const gone = { retired_at: at(9), gone_at: at(9), address_index: null };
    expect(await listHostPeers(store, next)).toMatchObject([
      { public_key: 'a', ...gone },
      { public_key: 'b', ...gone },
    ]);
  });

  test('a failure is recorded unless the peer was changed since, and takes back that the host has it', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const failed = await addPeer(store, ids, { wanted_version: 3, applied_version: 3, applied_state: 'present' });
    const behind = await addPeer(store, ids, { wanted_version: 3, applied_version: 1, applied_state: 'present' });
    const changed = await addPeer(store, ids, { wanted_version: 2 });
    await recordFailed(store, [
      { id: failed.id, version: 3, state: 'none', error: 'address taken', nextAttemptAt: at(30) },
      { id: behind.id, version: 3, state: 'present', error: 'address taken', nextAttemptAt: at(30) },
      { id: changed.id, version: 1, state: 'none', error: 'old news', nextAttemptAt: at(30) },
    ]);
    const attempt = { last_error: 'address taken', attempts: 1, next_attempt_at: at(30) };
    expect(await findPeer(store, failed.id)).toMatchObject({ ...attempt, applied_version: 2, applied_state: 'none' });
    expect(await findPeer(store, behind.id)).toMatchObject({
      ...attempt,
      applied_version: 1,
      applied_state: 'present',
    });
    expect(await findPeer(store, changed.id)).toEqual(changed);
  });

  test('traffic beyond 32 bits is kept, and a missing handshake erases none', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const peer = await addPeer(store, ids);
    const see = (sighting: Omit<PeerSighting, 'id' | 'endpoint_hash' | 'endpoint_since'>) =>
      store.transaction((tx) =>
        recordSightings(tx, [{ id: peer.id, endpoint_hash: null, endpoint_since: null, ...sighting }]),
      );
    await see({ rx_bytes: 5_000_000_000, tx_bytes: Number.MAX_SAFE_INTEGER, last_handshake_at: at(9) });
    await see({ rx_bytes: 5, tx_bytes: 0, last_handshake_at: null });
    const seen = { rx_bytes: 5_000_000_005, tx_bytes: Number.MAX_SAFE_INTEGER, last_handshake_at: at(9) };
    expect(await store.transaction((tx) => lockPeer(tx, peer.id))).toMatchObject(seen);
  });

  test('those that must go are listed until the host is without them', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const live = await addPeer(store, ids);
    const leaving = await addPeer(store, ids, { applied_state: 'present', removed_at: at(1) });
    const gone = await addPeer(store, ids, { applied_state: 'absent', removed_at: at(1) });
    expect(await listPeers(store)).toEqual([live]);
    expect(await listPeers(store, { which: 'removing' })).toEqual([leaving]);
    expect(await countPeers(store, { which: 'removing' })).toBe(1);
    expect(await listPeers(store, { which: 'all' })).toEqual([live, leaving, gone]);
  });
});

describe.each(engines)('addresses on %s', (engine) => {
  test('free places are the one behind the highest and the gaps from below', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    const query = { serverId: server.id, restingSince: at(0) };
    const gaps = (limit = 20) => listAddressGaps(store, query, { first: 2, limit });
    expect(await findHighestAddress(store, query)).toBeNull();
    expect(await gaps()).toEqual([{ from: 2, to: null }]);
    for (const address_index of [2, 3, 6, 9]) await addPeer(store, ids, { address_index });
    expect(await findHighestAddress(store, query)).toBe(9);
    expect(await gaps()).toEqual([
      { from: 4, to: 5 },
      { from: 7, to: 8 },
      { from: 10, to: null },
    ]);
    expect(await gaps(1)).toEqual([{ from: 4, to: 5 }]);
    await addPeer(store, { ...ids, serverId: (await addServer(store)).id }, { address_index: 4 });
    expect(await gaps(1)).toEqual([{ from: 4, to: 5 }]);
    expect(await isAddressTaken(store, query, 4)).toBe(false);
    expect(await isAddressTaken(store, query, 6)).toBe(true);
  });

  test('the address of a key that moved away rests on its old server', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    const peer = await addPeer(store, ids, { address_index: 2, public_key: 'k' });
    const row = await claimKey(store, peer, 'k');
    const other = await addServer(store);
    await store.transaction((tx) => updatePeer(tx, peer.id, { server_id: other.id, address_index: 7 }));
    await retireHostPeers(store, peer.id, { at: at(1), serverId: server.id });
    await store.transaction((tx) => markGone(tx, [row?.id ?? 0], at(100)));
    const query = (seconds: number) => ({ serverId: server.id, restingSince: at(seconds) });
    expect(await findHighestAddress(store, query(99))).toBe(2);
    expect(await isAddressTaken(store, query(99), 2)).toBe(true);
    expect((await listAddressGaps(store, query(99), { first: 2, limit: 1 }))[0]?.from).toBe(3);
    expect(await findHighestAddress(store, query(100))).toBeNull();
    expect(await isAddressTaken(store, query(100), 2)).toBe(false);
  });

  test('a removed peer keeps its address until it is off the host and has rested', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const peer = await addPeer(store, ids, { address_index: 2, public_key: 'k' });
    const row = await claimKey(store, peer, 'k');
    await store.transaction((tx) => changePeer(tx, peer.id, { removed_at: at(10), at: at(10) }));
    await retireHostPeers(store, peer.id, { at: at(10) });
    expect(await releaseRestedAddresses(store, at(1000))).toBe(0);
    await recordApplied(store, [{ id: peer.id, serverId: peer.server_id, version: 2, state: 'absent' }], at(100));
    expect(await releaseRestedAddresses(store, at(1000))).toBe(0);
    await store.transaction((tx) => markGone(tx, [row?.id ?? 0], at(100)));
    expect(await releaseRestedAddresses(store, at(99))).toBe(0);
    expect(await releaseRestedAddresses(store, at(100))).toBe(1);
    expect(await findPeer(store, peer.id)).toMatchObject({ address_index: null });
  });
});

describe.each(engines)('keys on hosts on %s', (engine) => {
  test('only keys of live peers are claimed, each with the address of its peer', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    const [live] = [await addPeer(store, ids, { public_key: 'live', address_index: 7 })];
    await addPeer(store, ids, { public_key: 'removed', removed_at: at(1) });
    const elsewhere = { ...ids, serverId: (await addServer(store)).id };
    await addPeer(store, elsewhere, { public_key: 'elsewhere' });
    const claim = (...publicKeys: string[]) =>
      store.transaction((tx) => claimHostPeers(tx, { serverId: server.id, publicKeys, at: at(2) }));
    expect(await claim('live', 'removed', 'elsewhere', 'unknown')).toEqual(['live']);
    expect(await listHostPeers(store, server.id)).toMatchObject([
      { peer_id: live.id, address_index: 7, created_at: at(2) },
    ]);
    await store.transaction((tx) => updatePeer(tx, live.id, { address_index: 9 }));
    expect(await claim('live')).toEqual(['live']);
    expect(await listHostPeers(store, server.id)).toMatchObject([{ address_index: 9, created_at: at(2) }]);
    expect(await claim()).toEqual([]);
  });

  test('a tombstone of the same peer lives again, a key that the host holds for another one is refused', async () => {
    await using store = await openTestStore(engine);
    const { ids } = await place(store);
    const peer = await addPeer(store, ids);
    const row = await claimKey(store, peer, 'k');
    expect(await retireHostPeers(store, peer.id, { at: at(1) })).toBe(1);
    expect(await claimKey(store, peer, 'k')).toEqual({ ...row, retired_at: null });
    await store.transaction((tx) => changePeer(tx, peer.id, { removed_at: at(2), at: at(2) }));
    await retireHostPeers(store, peer.id, { at: at(2) });
    const other = await addPeer(store, ids);
    expect(await claimKey(store, other, 'k')).toBeUndefined();
    await store.transaction((tx) => updatePeer(tx, other.id, { public_key: 'another' }));
    await store.transaction((tx) => markGone(tx, [row?.id ?? 0], at(3)));
    expect(await claimKey(store, other, 'k')).toMatchObject({ peer_id: other.id, retired_at: null, gone_at: null });
  });

  test('only keys that no live peer has are marked as gone, once', async () => {
    await using store = await openTestStore(engine);
    const { ids, user, server } = await place(store);
    const peer = await addPeer(store, ids);
    const [old, current] = [await claimKey(store, peer, 'old'), await claimKey(store, peer, 'current')];
    await retireHostPeers(store, peer.id, { at: at(1), exceptKey: 'current' });
    const rows = [old?.id ?? 0, current?.id ?? 0];
    expect(await store.transaction((tx) => markGone(tx, rows, at(2)))).toBe(1);
    expect(await store.transaction((tx) => markGone(tx, rows, at(3)))).toBe(0);
    expect(await listHostPeers(store, server.id)).toMatchObject([
      { gone_at: at(2), retired_at: at(1) },
      { gone_at: null, retired_at: null },
    ]);
    await store.transaction((tx) => removePeersOfUser(tx, user.id, at(4)));
    expect(await retireHostPeersOfUser(store, user.id, at(4))).toBe(1);
  });

  test('a key that a pass put on the host after its peer had let it go is retired when it is gone', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    const peer = await addPeer(store, ids);
    const row = await claimKey(store, peer, 'late');
    await store.transaction((tx) => updatePeer(tx, peer.id, { public_key: 'new' }));
    expect(await store.transaction((tx) => markGone(tx, [row?.id ?? 0], at(5)))).toBe(1);
    expect(await listHostPeers(store, server.id)).toMatchObject([{ gone_at: at(5), retired_at: at(5) }]);
  });

  test('foreign peers are remembered while the host shows them', async () => {
    await using store = await openTestStore(engine);
    const server = await addServer(store);
    const see = (keys: string[], seconds: number) => {
      const peers = keys.map((public_key) => ({ public_key, allowed_ips: `10.8.0.${seconds}/32` }));
      return store.transaction((tx) => replaceForeignPeers(tx, { serverId: server.id, peers, at: at(seconds) }));
    };
    await see(['a', 'b'], 1);
    await see(['b', 'c'], 2);
    const rows = await listForeignPeers(store, server.id);
    expect(rows.map((row) => [row.public_key, row.first_seen_at, row.allowed_ips])).toEqual([
      ['b', at(1), '10.8.0.2/32'],
      ['c', at(2), '10.8.0.2/32'],
    ]);
    expect(await findForeignPeer(store, server.id, 'c')).toEqual(rows[1]);
    await store.transaction((tx) => forgetForeignPeer(tx, server.id, 'c'));
    expect(await listForeignPeers(store, server.id)).toEqual(rows.slice(0, 1));
    await see([], 3);
    expect(await listForeignPeers(store, server.id)).toEqual([]);
  });
});

describe.each(engines)('the snapshot of a server on %s', (engine) => {
  test('holds its keys, its owners, their periods with disputes and their devices everywhere', async () => {
    await using store = await openTestStore(engine);
    const { ids, user, server } = await place(store);
    const elsewhere = await addServer(store);
    const stranger = await addUser(store);
    const payment = await addPayment(store, user.id, { disputed_at: at(4) });
    const period = await addPeriod(store, user.id, { payment_id: payment.id, source: 'payment' });
    await addPeriod(store, stranger.id);
    const here = await addPeer(store, ids, { address_index: 2, public_key: 'k' });
    const there = await addPeer(store, { userId: user.id, serverId: elsewhere.id });
    await addPeer(store, { userId: stranger.id, serverId: elsewhere.id });
    const key = await claimKey(store, here, 'k');
    const snapshot = await snapshotForServer(store, server.id);
    expect(snapshot).toEqual({
      server,
      users: [{ id: user.id, status: 'active', removed_at: null }],
      periods: [{ ...period, disputed_at: at(4) }],
      peers: [here, there],
      hostPeers: [key],
    });
    expect(await snapshotForServer(store, 999)).toBeUndefined();
  });

  test('holds a removed peer until the host is without it, and its key for ever', async () => {
    await using store = await openTestStore(engine);
    const { ids, server } = await place(store);
    const peer = await addPeer(store, ids, { address_index: 2, public_key: 'k' });
    const key = await claimKey(store, peer, 'k');
    await store.transaction((tx) => changePeer(tx, peer.id, { removed_at: at(1), at: at(1) }));
    await retireHostPeers(store, peer.id, { at: at(1) });
    expect((await snapshotForServer(store, server.id))?.peers).toHaveLength(1);
    await recordApplied(store, [{ id: peer.id, serverId: peer.server_id, version: 2, state: 'absent' }], at(2));
    await store.transaction((tx) => markGone(tx, [key?.id ?? 0], at(2)));
    const after = await snapshotForServer(store, server.id);
    expect(after?.peers).toEqual([]);
    expect(after?.users).toEqual([]);
    expect(after?.hostPeers).toEqual([{ ...key, retired_at: at(1), gone_at: at(2) }]);
  });
});

async function place(store: Store) {
  const [user, server] = [await addUser(store), await addServer(store)];
  return { user, server, ids: { userId: user.id, serverId: server.id } };
}

/** Gives the peer the key and claims it; undefined when that is refused. */
async function claimKey(store: Store, peer: PeerRow, publicKey: string): Promise<HostPeerRow | undefined> {
  const { server_id: serverId } = peer;
  await store.transaction(async (tx) => {
    await updatePeer(tx, peer.id, { public_key: publicKey });
    await claimHostPeers(tx, { serverId, publicKeys: [publicKey], at: at(0) });
  });
  const keys = await listHostPeers(store, serverId);
  return keys.find((row) => row.public_key === publicKey && row.peer_id === peer.id);
}

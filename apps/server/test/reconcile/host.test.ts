import { listForeignPeers, listHostPeers, updateServer, updateUser } from '@vpn-api/db';
import { generateKeyPair, type PublicKey } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { DAY_SECONDS } from '../../src/domain/instant.ts';
import { rotatePeer } from '../../src/ops/rotate-peer.ts';
import { activatePeer, deactivatePeer } from '../../src/ops/switch-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit, World } from './world.ts';

describe.each(engines)('a host on %s', (engine) => {
  test('has a paid peer with exactly its own address, and the peer says so', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V6: 'fd00:8::/64' } });
    const { peer } = await world.device();
    const [onHost] = world.host.peers();
    expect(onHost).toMatchObject({ publicKey: peer.public_key, allowedIps: [peer.wg_ip, peer.wg_ip6], enabled: true });
    expect(onHost?.presharedKey).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    const row = await world.row(peer.id);
    expect(row).toMatchObject({ applied_state: 'present', applied_version: row.wanted_version, pending_since: null });
    expect(await world.judged(peer.id)).toMatchObject({ state: 'active', access: { allowed: true, reason: 'active' } });
  });

  test('tells the key and the port that client configs need', async () => {
    await using world = await World.start({ engine });
    expect(await world.server()).toMatchObject({ public_key: world.host.publicKey, endpoint: 'vpn.example.com:51820' });
  });

  test('never gets its own key as a peer, even if a user submitted it before it was known', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer();
    await updateServer(world.store, (await world.server()).id, { public_key: null });
    const { peer } = await world.create(user, { publicKey: world.host.publicKey });
    await world.app.settled();
    expect(world.host.peers()).toEqual([]);
    expect(await world.judged(peer.id)).toMatchObject({ state: 'failed', peer: { last_error: 'key_conflict' } });
  });

  test('is not asked to make changes when there is nothing to change', async () => {
    await using world = await World.start({ engine });
    await world.device();
    const applies = () => world.host.calls.filter(({ method }) => method === 'apply').length;
    expect(applies()).toBe(1);
    await world.pass(60);
    await world.pass(60);
    expect(applies()).toBe(1);
  });

  test.each(['remove', 'disable'] as const)(
    'that can %s loses a peer at its expiry and has it again when it is paid',
    async (suspend) => {
      await using world = await World.start({ engine, host: { suspend } });
      const { user, peer } = await world.device({ days: 30 });
      await world.pass(30 * DAY_SECONDS - 1);
      expect(world.isOnHost(peer.public_key)).toBe(true);
      await world.pass(1);
      expect(world.isOnHost(peer.public_key)).toBe(false);
      expect(await world.row(peer.id)).toMatchObject({ applied_state: 'suspended' });
      expect(await world.judged(peer.id)).toMatchObject({ state: 'suspended', access: { reason: 'expired' } });
      await world.pay(user.id);
      await world.app.settled();
      expect(world.isOnHost(peer.public_key)).toBe(true);
      expect(await world.judged(peer.id)).toMatchObject({ state: 'active' });
      expect(world.addressesOf(peer.public_key)).toEqual([peer.wg_ip]);
    },
  );

  test('follows deactivation, activation and removal', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    const { peer } = device;
    const request = world.request(device);
    await deactivatePeer(world.services, request);
    await world.app.settled();
    expect(world.isOnHost(peer.public_key)).toBe(false);
    expect(await world.judged(peer.id)).toMatchObject({ state: 'suspended', access: { reason: 'deactivated' } });
    await activatePeer(world.services, request);
    await world.app.settled();
    expect(world.isOnHost(peer.public_key)).toBe(true);
    await world.remove(device);
    await world.app.settled();
    expect(world.host.peers()).toEqual([]);
    expect(await world.row(peer.id)).toMatchObject({ applied_state: 'absent' });
    const [tombstone] = await listHostPeers(world.store, peer.server_id);
    expect(tombstone).toMatchObject({ retired_at: expect.any(String), gone_at: expect.any(String) });
  });

  test('has the new key of a rotated peer on its old address, and the old key no more', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    const { peer } = device;
    const rotated = await rotatePeer(world.services, world.request(device), { publicKey: null, beforeCommit });
    await world.app.settled();
    expect(rotated.peer.public_key).not.toBe(peer.public_key);
    expect(rotated.peer.config_version).toBe(peer.config_version + 1);
    expect(world.keysOnHost()).toEqual(new Set([rotated.peer.public_key]));
    expect(world.addressesOf(rotated.peer.public_key)).toEqual([peer.wg_ip]);
    const keys = await listHostPeers(world.store, peer.server_id);
    expect(keys.map((row) => [row.public_key, row.gone_at !== null])).toEqual([
      [peer.public_key, true],
      [rotated.peer.public_key, false],
    ]);
  });

  test('gets back a peer that somebody removed by hand, with the right address if that was changed', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    world.deleteFromHost(peer.public_key);
    await world.pass(60);
    expect(world.isOnHost(peer.public_key)).toBe(true);
    world.host.put({ publicKey: peer.public_key as PublicKey, allowedIps: ['0.0.0.0/0'] });
    await world.pass(60);
    expect(world.addressesOf(peer.public_key)).toEqual([peer.wg_ip]);
  });

  test('loses a removed key again that an old backup brings back, and never takes it for foreign', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    await world.remove(device);
    await world.app.settled();
    await world.pass(3600);
    world.host.put({ publicKey: device.peer.public_key as PublicKey, allowedIps: [device.peer.wg_ip as string] });
    await world.pass(60);
    expect(world.host.peers()).toEqual([]);
    expect(await listForeignPeers(world.store, device.peer.server_id)).toEqual([]);
  });

  test('loses the peers of a blocked or removed user', async () => {
    await using world = await World.start({ engine });
    const blocked = await world.device();
    const kept = await world.device();
    await updateUser(world.store, blocked.user.id, { status: 'blocked' });
    await world.wake();
    expect(world.keysOnHost()).toEqual(new Set([kept.peer.public_key]));
    expect(await world.judged(blocked.peer.id)).toMatchObject({ state: 'suspended', access: { reason: 'blocked' } });
  });

  test('keeps the oldest devices when the limit shrinks, and suspends the others', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 3, days: 10 });
    const peers = [];
    for (let device = 0; device < 3; device += 1) {
      peers.push((await world.create(user)).peer);
      await world.pass(1);
    }
    await world.pass(10 * DAY_SECONDS);
    await world.pay(user.id, { devices: 1 });
    await world.app.settled();
    expect(world.keysOnHost()).toEqual(new Set([peers[0]?.public_key]));
    const reasons = await Promise.all(peers.map(async ({ id }) => (await world.judged(id)).access.reason));
    expect(reasons).toEqual(['active', 'device_limit_exceeded', 'device_limit_exceeded']);
  });

  test('is only looked at in observe mode: the plan is counted and nothing is done', async () => {
    await using world = await World.start({ engine });
    const before = await world.device();
    await updateServer(world.store, (await world.server()).id, { mode: 'observe' });
    const after = await world.device();
    await world.remove(before);
    await world.pass(60);
    expect(world.keysOnHost()).toEqual(new Set([before.peer.public_key]));
    expect(await world.server()).toMatchObject({ pending_changes: 2, last_error: null });
    expect(await world.judged(after.peer.id)).toMatchObject({ state: 'pending' });
    await updateServer(world.store, (await world.server()).id, { mode: 'apply' });
    await world.wake();
    expect(world.keysOnHost()).toEqual(new Set([after.peer.public_key]));
    expect(await world.server()).toMatchObject({ pending_changes: 0 });
  });
});

describe.each(engines)('foreign peers on %s', (engine) => {
  test('stay as they are, and are known', async () => {
    await using world = await World.start({ engine });
    const foreign = world.host.addForeignPeer(['10.8.0.200/32', '192.168.7.0/24']);
    const device = await world.device();
    await world.remove(device);
    await world.pass(60);
    expect(world.host.peers()).toMatchObject([{ publicKey: foreign, allowedIps: ['10.8.0.200/32', '192.168.7.0/24'] }]);
    const known = await listForeignPeers(world.store, device.peer.server_id);
    expect(known).toMatchObject([{ public_key: foreign, allowed_ips: '10.8.0.200/32, 192.168.7.0/24' }]);
  });

  test('keep their addresses: no peer is given one', async () => {
    await using world = await World.start({ engine });
    world.host.addForeignPeer(['10.8.0.2/32']);
    world.host.addForeignPeer(['10.8.0.4/30']);
    await world.wake();
    const addresses = [];
    for (let device = 0; device < 3; device += 1) addresses.push((await world.device()).peer.wg_ip);
    expect(addresses).toEqual(['10.8.0.3/32', '10.8.0.8/32', '10.8.0.9/32']);
  });

  test('keep an address that was given out before they were seen: the peer gets another one', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer();
    await world.app.settled();
    const foreign = world.host.addForeignPeer(['10.8.0.2/32']);
    const { peer } = await world.create(user);
    await world.app.settled();
    expect(peer.wg_ip).toBe('10.8.0.2/32');
    expect(world.addressesOf(foreign)).toEqual(['10.8.0.2/32']);
    expect(await world.row(peer.id)).toMatchObject({
      wg_ip: '10.8.0.3/32',
      config_version: 2,
      applied_state: 'present',
    });
    expect(world.addressesOf(peer.public_key)).toEqual(['10.8.0.3/32']);
    expect(await world.judged(peer.id)).toMatchObject({ state: 'active' });
    const told = { peer_id: peer.id, user_id: user.id, server_id: peer.server_id, config_version: 2 };
    expect(await world.told('peer.config_changed')).toEqual([told]);
  });

  test('keep a key that a user wants too: his peer says key_conflict', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer();
    const { publicKey } = generateKeyPair();
    await world.app.settled();
    world.host.put({ publicKey, allowedIps: ['10.8.0.77/32'] });
    const { peer } = await world.create(user, { publicKey });
    await world.app.settled();
    // Written down as ours before the attempt, the key would be taken over if the host were only asked afterwards.
    expect(world.addressesOf(publicKey)).toEqual(['10.8.0.77/32']);
    expect(await world.judged(peer.id)).toMatchObject({ state: 'failed', peer: { last_error: 'key_conflict' } });
  });

  test('have keys that no user can get: a known one is refused at once', async () => {
    await using world = await World.start({ engine });
    const foreign = world.host.addForeignPeer(['10.8.0.77/32']);
    await world.wake();
    const user = await world.customer();
    await expect(world.create(user, { publicKey: foreign })).rejects.toMatchObject({ code: 'key_conflict' });
  });
});

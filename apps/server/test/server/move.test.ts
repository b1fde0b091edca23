import { listHostPeers, listPeers, type PeerRow } from '@vpn-api/db';
import { generateKeyPair } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { evacuateServer } from '../../src/ops/evacuate-server.ts';
import { engines } from '../harness.ts';
import { HostWorld, type ServerView } from './host-world.ts';

const keysOf = (host: { peers(): readonly { publicKey: string; enabled: boolean }[] }) =>
  new Set(host.peers().flatMap(({ publicKey, enabled }) => (enabled ? [publicKey] : [])));

const move = (hosts: HostWorld, peer: PeerRow, body: Record<string, unknown>) =>
  hosts.call<Record<string, unknown>>('POST', `/vpn_peers/${peer.id}/move`, body);

describe.each(engines)('a moved peer on %s', (engine) => {
  test('keeps its keys, gets an address of the other host, and is gone from the first', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server, host } = await hosts.live({ client_allowed_ips: '10.0.0.0/8' });
    const { peer, user } = await world.device();
    const answer = await move(hosts, peer, { server_id: server.id });
    expect(answer).toMatchObject({
      status: 200,
      body: { server_id: server.id, wg_public_key: peer.public_key, wg_ip: '10.21.0.2/32', state: 'pending' },
    });
    await hosts.app.settled();
    expect(keysOf(host)).toEqual(new Set([peer.public_key]));
    expect(keysOf(world.host)).toEqual(new Set());
    const row = await world.row(peer.id);
    expect(row).toMatchObject({ moved_from_id: peer.server_id, config_version: peer.config_version + 1 });
    expect(row).toMatchObject({ allowed_ips: '10.0.0.0/8', applied_state: 'present' });
    const [old] = await listHostPeers(world.store, peer.server_id);
    expect(old).toMatchObject({ public_key: peer.public_key, gone_at: world.app.clock.now() });
    const events = await hosts.ok<{ type: string; data: Record<string, unknown> }[]>('GET', '/events?limit=100');
    const told = events.filter(({ type }) => type === 'peer.config_changed' || type === 'peer.moved');
    expect(told).toMatchObject([
      { type: 'peer.moved', data: { from_server_id: peer.server_id, server_id: server.id, user_id: user.id } },
      { type: 'peer.config_changed', data: { peer_id: peer.id, config_version: peer.config_version + 1 } },
    ]);
    const audit = await hosts.ok<{ action: string; target: string }[]>('GET', '/audit');
    expect(audit).toContainEqual(expect.objectContaining({ action: 'peer.move', target: `peer:${peer.id}` }));
  });

  test('stays where it is when it is there already, however often that is asked for', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.live({ region: 'nl' });
    const { peer } = await hosts.world.device();
    await move(hosts, peer, { server_id: server.id });
    const version = (await hosts.world.row(peer.id)).config_version;
    expect((await move(hosts, peer, { server_id: server.id })).status).toBe(200);
    expect((await move(hosts, peer, { region: 'nl' })).status).toBe(200);
    expect((await hosts.world.row(peer.id)).config_version).toBe(version);
  });

  test('goes there and back, and each time only one host has it', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.live();
    const { peer } = await hosts.world.device();
    for (const id of [server.id, peer.server_id, server.id, peer.server_id]) {
      expect((await move(hosts, peer, { server_id: id })).status).toBe(200);
      await hosts.app.settled();
      const there = id === server.id ? host : hosts.world.host;
      const elsewhere = id === server.id ? hosts.world.host : host;
      expect(keysOf(there)).toEqual(new Set([peer.public_key]));
      expect(keysOf(elsewhere)).toEqual(new Set());
    }
  });

  test('to a host that makes the keys has none until that host told them', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.addReported();
    await hosts.ok('POST', `/servers/${server.id}/apply`, {});
    const { peer } = await hosts.world.device();
    expect((await move(hosts, peer, { server_id: server.id })).body).toMatchObject({ wg_public_key: null });
    await hosts.app.settled();
    const row = await hosts.world.row(peer.id);
    expect(row.public_key).not.toBe(peer.public_key);
    expect(keysOf(host)).toEqual(new Set([row.public_key]));
    expect(keysOf(hosts.world.host)).toEqual(new Set());
    expect(row).toMatchObject({ key_origin: 'host', wg_ip: host.peers()[0]?.allowedIps[0] });
  });

  test('from a host that makes the keys takes them along', async () => {
    await using hosts = await HostWorld.start({ engine });
    const easy = await hosts.addReported();
    await hosts.ok('POST', `/servers/${easy.server.id}/apply`, {});
    const { server, host } = await hosts.live();
    const user = await hosts.world.customer();
    await hosts.world.create(user, { serverId: easy.server.id });
    await hosts.app.settled();
    const [peer] = await listPeers(hosts.world.store, { userId: user.id });
    if (peer === undefined) throw new Error('no peer');
    expect((await move(hosts, peer, { server_id: server.id })).status).toBe(200);
    await hosts.app.settled();
    expect(keysOf(host)).toEqual(new Set([peer.public_key]));
    expect(easy.host.peers()).toEqual([]);
    const { wg_quick } = await hosts.ok<{ wg_quick: string }>('GET', `/vpn_peers/${peer.id}/config`);
    expect(wg_quick).toContain('Address = 10.22.0.2/32');
  });

  test('is refused a server that is not there, retired or full, and a call that names none', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { peer } = await hosts.world.device();
    const full = await hosts.live({ capacity: 0 });
    const retired = await hosts.live();
    await hosts.ok('POST', `/servers/${retired.server.id}/retire`);
    const codes: unknown[] = [];
    for (const body of [{ server_id: 999 }, { server_id: retired.server.id }, { server_id: full.server.id }, {}]) {
      codes.push((await move(hosts, peer, body)).body.code);
    }
    expect(codes).toEqual(['server_not_found', 'server_retired', 'no_capacity', 'validation_failed']);
    expect(await hosts.world.row(peer.id)).toMatchObject({ server_id: peer.server_id, config_version: 1 });
  });
});

describe.each(engines)('a dead host on %s', (engine) => {
  test('is evacuated: 200 customers are live elsewhere within its region, none is lost, and a repeat changes nothing', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const dead = await hosts.live({ region: 'nl' });
    const near = await hosts.live({ region: 'nl', capacity: 150 });
    const far = await hosts.live({ region: 'de' });
    await hosts.ok('POST', `/servers/${(await world.server()).id}/drain`);
    const peers: PeerRow[] = [];
    for (let n = 0; n < 200; n += 1) {
      peers.push((await world.create(await world.customer(), { serverId: dead.server.id })).peer);
      // An idle connection would be closed in between.
      if (n % 20 === 0) await hosts.get(dead.server.id);
    }
    await hosts.app.settled();
    dead.host.fault = 'down';
    const path = `/servers/${dead.server.id}`;
    expect(await hosts.call('POST', `${path}/retire`)).toMatchObject({
      status: 409,
      body: { code: 'server_has_peers' },
    });
    // In parts, as after a crash.
    expect(await hosts.ok('POST', `${path}/evacuate`, { limit: 70 })).toEqual({
      moved: 70,
      remaining: 130,
      stopped: null,
    });
    expect(await hosts.ok('POST', `${path}/evacuate`, {})).toEqual({ moved: 130, remaining: 0, stopped: null });
    expect(await hosts.ok('POST', `${path}/evacuate`, {})).toEqual({ moved: 0, remaining: 0, stopped: null });
    await hosts.app.settled();
    expect([near.host.peers().length, far.host.peers().length]).toEqual([150, 50]);
    const live = new Set([...keysOf(near.host), ...keysOf(far.host)]);
    expect(live).toEqual(new Set(peers.map((peer) => peer.public_key)));
    expect(await hosts.get(dead.server.id)).toMatchObject({ draining: true, peers: 0 });
    const told = world.store.kysely
      .selectFrom('outbox_events')
      .select('user_id')
      .where('type', '=', 'peer.config_changed');
    expect(new Set((await told.execute()).map((row) => row.user_id))).toEqual(
      new Set(peers.map((peer) => peer.user_id)),
    );

    // Given up, it owes nothing and is not asked; should it return, it loses what it still has before anything else.
    await hosts.ok('POST', `${path}/retire`);
    expect(await hosts.get(dead.server.id)).toMatchObject({ pending_changes: 0, oldest_pending_seconds: null });
    const calls = dead.host.calls.length;
    await world.pass(600);
    expect(dead.host.calls.length).toBe(calls);
    expect((await hosts.call('POST', `${path}/plan`)).body).toMatchObject({ code: 'server_retired' });
    expect((await hosts.call('POST', `${path}/undrain`)).body).toMatchObject({ code: 'server_retired' });

    dead.host.fault = null;
    const foreign = dead.host.addForeignPeer(['10.77.0.9/32']);
    expect(dead.host.peers().length).toBe(201);
    await hosts.ok<ServerView>('POST', `${path}/unretire`);
    await hosts.app.settled();
    expect(dead.host.peers().map(({ publicKey }) => publicKey)).toEqual([foreign]);
    expect(live).toEqual(new Set([...keysOf(near.host), ...keysOf(far.host)]));
    expect(await hosts.get(dead.server.id)).toMatchObject({ draining: true, brake_reason: null, pending_changes: 0 });
    await hosts.ok('DELETE', path);
  }, 120_000);

  test('is evacuated as far as its caller waits, in a few compares of the other host', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    for (let n = 0; n < 12; n += 1) await world.device();
    const { host } = await hosts.live();
    const { id } = await world.server();
    // Every look at the clock takes time.
    let seconds = 0;
    const now = () => {
      seconds += 0.5;
      return addSeconds(world.app.clock.now(), seconds);
    };
    const clock = { now, at: world.services.clock.at.bind(world.services.clock) };
    const source = { actor: 'user:1', ip: '127.0.0.1', request_id: 'test' };
    const request = { id, source, target: {}, limit: 1_000 };
    const lists = () => host.calls.filter(({ method }) => method === 'list').length;
    const before = lists();
    const first = await evacuateServer({ ...world.services, clock }, request);
    expect(first.stopped).toBeNull();
    expect(first.moved).toBeGreaterThan(3);
    expect(first.remaining).toBeGreaterThan(0);
    await hosts.app.settled();
    expect(lists() - before).toBeLessThan(first.moved);
    expect(await evacuateServer(world.services, request)).toMatchObject({ remaining: 0 });
    await hosts.app.settled();
    expect(host.peers()).toHaveLength(12);
  });

  test('stops when the others are full, says so, and goes on when there is room', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server } = await hosts.live({ capacity: 2 });
    const { id } = await world.server();
    for (let n = 0; n < 3; n += 1) await world.device();
    const stopped = { moved: 2, remaining: 1, stopped: 'no_capacity' };
    // One more went there because the default server was the fuller one.
    const { peers } = await hosts.get(server.id);
    expect(await hosts.ok('POST', `/servers/${id}/evacuate`, {})).toEqual({ ...stopped, moved: 2 - peers });
    await hosts.ok('PUT', `/servers/${server.id}`, { capacity: 3 });
    expect(await hosts.ok('POST', `/servers/${id}/evacuate`, {})).toEqual({ moved: 1, remaining: 0, stopped: null });
  });

  test('that was given up, forgotten and added anew loses first what it still has of ours', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const address = 'vpn@returning.example.com';
    const { server, host } = await hosts.live({ address });
    const { peer } = await world.create(await world.customer(), { serverId: server.id });
    await hosts.app.settled();
    host.fault = 'down';
    await hosts.ok('POST', `/servers/${server.id}/evacuate`, {});
    await hosts.ok('POST', `/servers/${server.id}/retire`);
    await hosts.ok('DELETE', `/servers/${server.id}`);
    const again = await hosts.add({ address });
    const foreign = again.host.addForeignPeer(['10.77.0.9/32']);
    for (const ghost of host.peers()) again.host.put(ghost);
    const plan = await hosts.ok<{ counts: Record<string, number> }>('POST', `/servers/${again.server.id}/plan`);
    expect(plan).toMatchObject({ counts: { remove: 1 }, foreign: 1, brake: null });
    await hosts.ok('POST', `/servers/${again.server.id}/apply`, {});
    expect(again.host.peers().map(({ publicKey }) => publicKey)).toEqual([foreign]);
    expect(world.isOnHost(peer.public_key)).toBe(true);
    expect((await move(hosts, peer, { server_id: again.server.id })).status).toBe(200);
    await hosts.app.settled();
    expect(keysOf(again.host)).toEqual(new Set([foreign, peer.public_key]));
  });

  test('that returns before it was retired loses what was moved, and nothing else', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server, host } = await hosts.live();
    const { peer } = await world.create(await world.customer(), { serverId: server.id });
    await hosts.app.settled();
    host.fault = 'down';
    await hosts.ok('POST', `/servers/${server.id}/evacuate`, {});
    await hosts.app.settled();
    expect(world.isOnHost(peer.public_key)).toBe(true);
    expect(await hosts.call('DELETE', `/servers/${server.id}`)).toMatchObject({
      body: { code: 'server_owes_removals' },
    });
    host.fault = null;
    await world.pass(120);
    expect(host.peers()).toEqual([]);
    await hosts.ok('DELETE', `/servers/${server.id}`);
  });
});

test('a key of the client goes along with the move', async () => {
  await using hosts = await HostWorld.start({ engine: 'sqlite' });
  const { server, host } = await hosts.live();
  const { publicKey } = generateKeyPair();
  const { peer } = await hosts.world.create(await hosts.world.customer(), { publicKey });
  await move(hosts, peer, { server_id: server.id });
  await hosts.app.settled();
  expect(keysOf(host)).toEqual(new Set([publicKey]));
});

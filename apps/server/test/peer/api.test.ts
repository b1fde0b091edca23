import { listPeers, updateServer } from '@vpn-api/db';
import { derivePublicKey, generateKeyPair, type PrivateKey, parseClientConfig } from '@vpn-api/wg';
import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { engines, type Person } from '../harness.ts';
import { World } from '../reconcile/world.ts';

interface Peer {
  readonly id: number;
  readonly user_id: number;
  readonly wg_public_key: string;
  readonly wg_private_key: string | null;
  readonly wg_ip: string;
  readonly allowed_ips: string;
  readonly state: string;
  readonly active: boolean;
  readonly config_version: number;
}

describe.each(engines)('peers over REST on %s', (engine) => {
  test('show their private key once, and only to who made them (D29)', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    expect(derivePublicKey(made.wg_private_key as PrivateKey)).toBe(made.wg_public_key);
    const admin = await world.app.admin();
    for (const reader of [token, admin.token]) {
      const list = await world.app.rest<Peer[]>('GET', '/vpn_peers/', { token: reader });
      expect(list.body).toMatchObject([{ id: made.id, wg_private_key: null }]);
      const one = await world.app.rest<Peer>('GET', `/vpn_peers/${made.id}/`, { token: reader });
      expect(one.body.wg_private_key).toBeNull();
      const put = { token: reader, body: { device_name: 'x' } };
      expect((await world.app.rest<Peer>('PUT', `/vpn_peers/${made.id}`, put)).body.wg_private_key).toBeNull();
    }
  });

  test('have no secret key in the database as it is (D28)', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world, 2);
    const headers = { 'idempotency-key': 'once' };
    const made = await world.app.rest<Peer>('POST', '/vpn_peers/self', { token, body: {}, headers });
    const rotated = await world.app.rest<Peer>('POST', `/vpn_peers/${made.body.id}/rotate`, { token, body: {} });
    await world.app.settled();
    const preshared = world.host.peers().map((peer) => peer.presharedKey ?? '');
    const dump = await dumpOf(world);
    expect(dump).toContain(rotated.body.wg_public_key);
    const secrets = [made.body.wg_private_key, rotated.body.wg_private_key, ...preshared];
    for (const secret of secrets) {
      expect(secret).toMatch(/^.{43}=$/);
      expect(dump).not.toContain(secret);
      expect(world.app.logs.join('')).not.toContain(secret);
    }
  });

  test('have a config that connects: the right keys, addresses and routes (D30)', async () => {
    await using world = await World.start({ engine, env: { WG_POOL_V6: 'fd00:8::/64' } });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    await world.app.settled();
    const own = await world.app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token });
    expect(own.body.wg_quick).toContain(`PrivateKey = ${made.wg_private_key}\n`);
    const config = parseClientConfig(own.body.wg_quick);
    expect(config).toMatchObject({
      privateKey: made.wg_private_key,
      addresses: [made.wg_ip, 'fd00:8::2/128'],
      publicKey: world.host.publicKey,
      presharedKey: world.host.peers()[0]?.presharedKey,
      allowedIps: ['0.0.0.0/0', '::/0'],
      endpoint: 'vpn.example.com:51820',
    });
    const same = await world.app.rest<{ wg_quick: string }>('POST', '/vpn_peers/self/config', { token, body: {} });
    expect(same.body).toEqual(own.body);
    const text = await world.app.rest('GET', `/vpn_peers/${made.id}/config`, {
      token,
      headers: { accept: 'text/plain' },
    });
    expect(text.text).toBe(own.body.wg_quick);
  });

  test('of a client with its own key have a config only as a template', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    await add(world, token, { wg_public_key: generateKeyPair().publicKey });
    await world.app.settled();
    const refused = await world.app.rest('GET', '/vpn_peers/self/config', { token });
    expect(refused).toMatchObject({ status: 409, body: { code: 'private_key_not_stored' } });
    const template = await world.app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config?template=true', {
      token,
    });
    expect(template.body.wg_quick).toContain(`PublicKey = ${world.host.publicKey}`);
    expect(template.body.wg_quick).not.toMatch(/PrivateKey = [A-Za-z0-9+/]{43}=/);
  });

  test('take neither an address nor a route nor a line from their owner into the config (D18, D19)', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token, { wg_ip: '10.8.0.1/32', allowed_ips: '10.8.0.77/32\nPostUp = id' });
    expect(made).toMatchObject({ wg_ip: '10.8.0.2/32', allowed_ips: '0.0.0.0/0, ::/0' });
    const put = (body: unknown) => world.app.rest('PUT', `/vpn_peers/${made.id}`, { token, body });
    expect(await put({ allowed_ips: '10.0.0.0/8\nPostUp = id' })).toMatchObject({ status: 400 });
    expect(await put({ wg_ip: '10.8.0.9' })).toMatchObject({ status: 403 });
    expect(await put({ device_name: 'a\nPostUp = id' })).toMatchObject({ status: 400 });
    expect(await put({ allowed_ips: '10.0.0.0/8,  192.168.0.0/16' })).toMatchObject({
      status: 200,
      body: { allowed_ips: '10.0.0.0/8, 192.168.0.0/16', config_version: 2 },
    });
    await world.app.settled();
    expect(world.addressesOf(made.wg_public_key)).toEqual(['10.8.0.2/32']);
    const wrongKey = await world.app.rest('POST', '/vpn_peers/self', {
      token,
      body: { wg_public_key: `${'A'.repeat(43)}=` },
    });
    expect(wrongKey).toMatchObject({ status: 400, body: { issues: [{ path: 'wg_public_key' }] } });
  });

  test('get an address of the pool from an admin', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    const admin = await world.app.admin();
    const put = (wg_ip: string) =>
      world.app.rest('PUT', `/vpn_peers/${made.id}`, { token: admin.token, body: { wg_ip } });
    expect(await put('10.8.0.9')).toMatchObject({ status: 200, body: { wg_ip: '10.8.0.9/32' } });
    expect(await put('10.8.0.1')).toMatchObject({ status: 409, body: { code: 'address_conflict' } });
    expect(await put('nonsense')).toMatchObject({ status: 400, body: { issues: [{ path: 'wg_ip' }] } });
  });

  test('are somebody’s: others find none, and learn nothing', async () => {
    await using world = await World.start({ engine });
    const [alice, eve] = [await subscriber(world), await subscriber(world)];
    const made = await add(world, alice.token);
    const { token } = eve;
    const paths = [
      ['GET', ''],
      ['GET', '/config'],
      ['GET', '/qr'],
      ['GET', '/status'],
      ['PUT', ''],
      ['POST', '/deactivate'],
      ['POST', '/activate'],
      ['POST', '/rotate'],
      ['DELETE', ''],
    ] as const;
    for (const [method, path] of paths) {
      const body = method === 'PUT' || method === 'POST' ? {} : undefined;
      const answer = await world.app.rest(method, `/vpn_peers/${made.id}${path}`, { token, body });
      expect(answer, `${method} ${path}`).toMatchObject({ status: 404, body: { detail: 'Peer not found' } });
    }
    expect((await world.app.rest<Peer[]>('GET', '/vpn_peers', { token })).body).toEqual([]);
    const named = await world.app.rest('GET', `/vpn_peers?user_id=${alice.id}`, { token });
    expect(named).toMatchObject({ status: 403, body: { detail: 'Not allowed' } });
    const forAlice = await world.app.rest('POST', '/vpn_peers', { token, body: { user_id: alice.id } });
    expect(forAlice).toMatchObject({ status: 403, body: { detail: 'Not allowed' } });
  });

  test('that are removed are hidden from their owner, and shown to operators until the host is without them', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    await world.app.settled();
    world.host.fault = 'down';
    const removed = await world.app.rest('DELETE', `/vpn_peers/${made.id}`, { token });
    expect(removed).toMatchObject({ status: 200, body: { msg: 'deleted' } });
    await world.app.settled();
    expect(await world.app.rest('GET', `/vpn_peers/${made.id}`, { token })).toMatchObject({ status: 404 });
    expect((await world.app.rest('GET', '/vpn_peers?state=removing', { token })).body).toEqual([]);
    const admin = await world.app.admin();
    const removing = () => world.app.rest<Peer[]>('GET', '/vpn_peers?state=removing', { token: admin.token });
    expect((await removing()).body).toMatchObject([{ id: made.id, state: 'removing', active: false }]);
    world.host.fault = null;
    await world.pass(60);
    expect((await removing()).body).toEqual([]);
    const again = await world.app.rest('DELETE', `/vpn_peers/${made.id}`, { token });
    expect(again).toMatchObject({ status: 404 });
  });

  test('are listed by the state they are in now, in pages and counted', async () => {
    await using world = await World.start({ engine });
    const long = await world.customer({ devices: 9, days: 30 });
    const short = await world.customer({ devices: 9, days: 1 });
    for (let turn = 0; turn < 3; turn += 1) for (const user of [long, short]) await world.create(user);
    await world.app.settled();
    world.host.fault = 'down';
    world.app.clock.advance(86_400);
    await world.app.settled();
    const { token } = await world.app.admin();
    const list = async (query: string) => {
      const { body, headers } = await world.app.rest<Peer[]>('GET', `/vpn_peers?with_total=true&${query}`, { token });
      return {
        ids: body.map((peer) => peer.id),
        states: new Set(body.map((peer) => peer.state)),
        total: headers.get('x-total-count'),
      };
    };
    const [active, pending] = [new Set(['active']), new Set(['pending'])];
    expect(await list('state=active')).toEqual({ ids: [1, 3, 5], states: active, total: '3' });
    expect(await list('state=pending')).toEqual({ ids: [2, 4, 6], states: pending, total: '3' });
    expect(await list('state=pending&skip=1&limit=1')).toEqual({ ids: [4], states: pending, total: '3' });
    expect(await list('state=pending&after_id=2&limit=5')).toEqual({ ids: [4, 6], states: pending, total: '3' });
    expect(await list('state=suspended')).toMatchObject({ ids: [], total: '0' });
    expect(await list(`user_id=${short.id}`)).toMatchObject({ ids: [2, 4, 6], total: '3' });
    world.host.fault = null;
    await world.pass(60);
    expect(await list('state=suspended')).toMatchObject({ ids: [2, 4, 6] });
  });

  test('say why they may or may not connect', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    const status = async () => (await world.app.rest('GET', `/vpn_peers/${made.id}/status`, { token })).body;
    await world.app.settled();
    expect(await status()).toEqual({
      peer_id: made.id,
      allowed: true,
      reason: 'active',
      active: true,
      state: 'active',
      applied_at: world.app.clock.now(),
      pending_since: null,
      last_error: null,
      last_handshake_at: null,
      endpoint_since: null,
      rx_bytes: 0,
      tx_bytes: 0,
      expires_at: '2026-12-22T12:00:00.000Z',
    });
    await world.app.rest('POST', `/vpn_peers/${made.id}/deactivate`, { token, body: {} });
    await world.app.settled();
    expect(await status()).toMatchObject({ allowed: false, reason: 'deactivated', active: false, state: 'suspended' });
  });

  test('carry the traffic and the last handshake that the host saw', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    const made = await add(world, token);
    await world.app.settled();
    const [onHost] = world.host.peers();
    if (onHost === undefined) throw new Error('not on the host');
    world.host.put({ ...onHost, rxBytes: 5_000_000_000, txBytes: 7, lastHandshakeAt: world.app.clock.now() });
    await world.pass(60);
    const { body } = await world.app.rest('GET', `/vpn_peers/${made.id}`, { token });
    expect(body).toMatchObject({ rx_bytes: 5_000_000_000, tx_bytes: 7, last_handshake_at: '2026-11-22T12:00:00.000Z' });
  });

  test('made twice with one idempotency key are one peer, with its private key in both answers', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world, 5);
    const headers = { 'idempotency-key': 'a phone' };
    const make = () => world.app.rest<Peer>('POST', '/vpn_peers/self', { token, body: {}, headers });
    const [first, second] = [await make(), await make()];
    expect(second.body).toEqual(first.body);
    expect(first.body.wg_private_key).not.toBeNull();
    expect(await listPeers(world.store)).toHaveLength(1);
  });

  test('have no config while nobody knows where the server is', async () => {
    await using world = await World.start({ engine });
    const { token } = await subscriber(world);
    await add(world, token);
    await updateServer(world.store, (await world.server()).id, { endpoint: null });
    const answer = await world.app.rest('GET', '/vpn_peers/self/config', { token });
    expect(answer).toMatchObject({ status: 404, body: { code: 'config_not_found' } });
  });
});

async function subscriber(world: World, devices = 1): Promise<Person> {
  const person = await world.app.register();
  await world.pay(person.id, { devices });
  return person;
}

async function add(world: World, token: string, body: unknown = {}): Promise<Peer> {
  const answer = await world.app.rest<Peer>('POST', '/vpn_peers/self', { token, body });
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
}

async function dumpOf(world: World): Promise<string> {
  const tables = await world.store.kysely.introspection.getTables();
  const rows = await Promise.all(
    tables.map(({ name }) => sql`select * from ${sql.table(name)}`.execute(world.store.kysely)),
  );
  return JSON.stringify(rows.map((result) => result.rows));
}

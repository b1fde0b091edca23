import { randomUUID } from 'node:crypto';
import { findPeer, listPublishedEvents, publishOutboxEvents } from '@vpn-api/db';
import { generateKeyPair, parseClientConfig } from '@vpn-api/wg';
import { startWgEasyStub, type WgEasyStub } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import { type Answer, type App, engines, type Person, startApp } from '../harness.ts';

const DAY = 86_400;
const versions = [14, 15] as const;
const cases = engines.flatMap((engine) => versions.map((version) => ({ engine, version })));

interface Peer {
  readonly id: number;
  readonly wg_public_key: string | null;
  readonly wg_private_key: string | null;
  readonly wg_ip: string | null;
  readonly config_version: number;
  readonly state: string;
  readonly code?: string;
}

interface World extends AsyncDisposable {
  readonly app: App;
  readonly stub: WgEasyStub;
  readonly alice: Person;
}

async function openWorld({ engine, version }: (typeof cases)[number]): Promise<World> {
  await using cleanup = new AsyncDisposableStack();
  const stub = cleanup.use(await startWgEasyStub({ version, clients: ['by hand'] }));
  const env = {
    WG_EASY_URL: stub.url,
    WG_EASY_PASSWORD: stub.password,
    WG_DNS: '9.9.9.9',
    RECONCILE_INTERVAL_SECONDS: '60',
  };
  const app = cleanup.use(await startApp({ engine, env }));
  const alice = await app.register();
  const { token } = await app.admin();
  const tariff = { name: 'Month', duration_days: 30, price: '5.00', currency: 'USD', device_limit: 2 };
  const sold = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: tariff });
  const grant = { user_id: alice.id, tariff_id: sold.body.id };
  expect((await app.rest('POST', '/subscriptions/grant', { token, body: grant })).status).toBe(200);
  const stack = cleanup.move();
  return { app, stub, alice, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Time goes on in steps, and everything that falls due is done, until the answer is there. */
async function whileTimePasses<T>({ app }: World, call: Promise<T>): Promise<T> {
  let isOver = false;
  const over = call.finally(() => {
    isOver = true;
  });
  // The call is on its way to the server: let it arrive before the clock moves.
  while (!isOver) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await app.settled();
    if (!isOver) app.clock.advance(0.5);
  }
  return over;
}

async function pass({ app }: World, seconds: number): Promise<void> {
  app.clock.advance(seconds);
  await app.settled();
  app.clock.advance(1);
  await app.settled();
}

/** These tests live through days, and a token through less than an hour. */
async function signIn({ app, alice }: World): Promise<string> {
  const body = { email: alice.email, password: 'Password123!' };
  return (await app.rest<{ access_token: string }>('POST', '/auth/login', { body })).body.access_token;
}

async function createPeer(
  world: World,
  { body = {}, key = randomUUID() }: { readonly body?: unknown; readonly key?: string | null } = {},
): Promise<Answer<Peer>> {
  const token = await signIn(world);
  const headers: Record<string, string> = key === null ? {} : { 'idempotency-key': key };
  return whileTimePasses(world, world.app.rest<Peer>('POST', '/vpn_peers/self', { token, body, headers }));
}

async function configOf(world: World, { id }: Peer) {
  const token = await signIn(world);
  const { text, status, body } = await world.app.rest<{ wg_quick: string }>('GET', `/vpn_peers/${id}/config`, {
    token,
  });
  expect(status, text).toBe(200);
  return parseClientConfig(body.wg_quick);
}

/** Clients of ours, whatever somebody made by hand left out. */
function ours({ stub }: World) {
  return stub.clients().filter(({ name }) => name !== 'by hand');
}

async function events({ app }: World, type: string) {
  await app.store.transaction((tx) => publishOutboxEvents(tx, 1_000));
  const found = await listPublishedEvents(app.store, { type }, {});
  return found.map(({ payload }) => JSON.parse(payload) as Record<string, unknown>);
}

function expectForeignUntouched({ stub }: World): void {
  expect(stub.named('by hand')).toHaveLength(1);
  expect(stub.peers()).toContain(stub.named('by hand')[0]?.publicKey);
}

describe.each(cases)('a wg-easy $version as the default server, on $engine', (testCase) => {
  test('is shown with the version that it told', async () => {
    await using world = await openWorld(testCase);
    await world.app.settled();
    const { token } = await world.app.admin();
    const { body } = await world.app.rest<{ driver_version: string }>('GET', '/servers/1', { token });
    expect(body.driver_version).toBe(String(testCase.version));
  });

  test('makes the keys, which the creating call answers and the config shows', async () => {
    await using world = await openWorld(testCase);
    const key = randomUUID();
    const created = await createPeer(world, { key });
    expect(created.status, created.text).toBe(200);
    const [client, ...others] = ours(world);
    expect(others).toEqual([]);
    expect(created.body).toMatchObject({
      wg_public_key: client?.publicKey,
      wg_private_key: client?.privateKey,
      wg_ip: `${client?.address}/32`,
      config_version: 1,
    });
    expect((await createPeer(world, { key })).body).toMatchObject({ wg_private_key: client?.privateKey });
    expect(ours(world)).toHaveLength(1);
    expect(await configOf(world, created.body)).toMatchObject({
      privateKey: client?.privateKey,
      presharedKey: client?.presharedKey,
      publicKey: world.stub.server.publicKey,
      endpoint: world.stub.server.endpoint,
      dns: ['9.9.9.9'],
    });
    const row = await findPeer(world.app.store, created.body.id);
    expect(JSON.stringify(row)).not.toContain(client?.privateKey);
    expect(world.app.logs.join('')).not.toContain(client?.privateKey);
    expect(await events(world, 'peer.active')).toEqual([
      { peer_id: created.body.id, user_id: world.alice.id, server_id: 1 },
    ]);
    expectForeignUntouched(world);
  });

  test('does not take the key of a client', async () => {
    await using world = await openWorld(testCase);
    const body = { wg_public_key: generateKeyPair().publicKey };
    const refused = await createPeer(world, { body });
    expect([refused.status, refused.body.code]).toEqual([409, 'client_keys_not_supported']);
    expect(ours(world)).toEqual([]);
  });

  test('that is down keeps the caller waiting for ten seconds, and a repeat has the same peer', async () => {
    await using world = await openWorld(testCase);
    await world.stub.goDown();
    const key = randomUUID();
    const asked = world.app.clock.now();
    const pending = await createPeer(world, { key });
    expect([pending.status, pending.body.code]).toEqual([503, 'peer_pending']);
    expect(pending.headers.get('retry-after')).toBe('2');
    expect(Date.parse(world.app.clock.now()) - Date.parse(asked)).toBeLessThan(15_000);
    const { body: again } = await createPeer(world, { key: null });
    expect(again.code).toBe('peer_pending');
    await world.stub.comeUp();
    await pass(world, 60);
    const created = await createPeer(world, { key });
    expect(created.status, created.text).toBe(200);
    expect(created.body.wg_private_key).toBe(ours(world)[0]?.privateKey);
    expect(ours(world)).toHaveLength(1);
    expect((await world.app.rest<Peer[]>('GET', '/vpn_peers', { token: await signIn(world) })).body).toHaveLength(1);
  });

  test('disables what is not paid and enables it again, with the same keys', async () => {
    await using world = await openWorld(testCase);
    const { body: peer } = await createPeer(world);
    await pass(world, 30 * DAY);
    expect(ours(world)).toMatchObject([{ publicKey: peer.wg_public_key, enabled: false }]);
    expect(world.stub.peers()).not.toContain(peer.wg_public_key);
    expect(await events(world, 'peer.suspended')).toMatchObject([{ peer_id: peer.id, reason: 'expired' }]);
    const { email } = await world.app.admin();
    const login = { email, password: 'Password123!' };
    const { body: admin } = await world.app.rest<{ access_token: string }>('POST', '/auth/login', { body: login });
    const grant = { user_id: world.alice.id, tariff_id: 1 };
    await world.app.rest('POST', '/subscriptions/grant', { token: admin.access_token, body: grant });
    await pass(world, 1);
    expect(ours(world)).toMatchObject([{ publicKey: peer.wg_public_key, enabled: true }]);
    expect(world.stub.peers()).toContain(peer.wg_public_key);
    expect(await events(world, 'peer.config_changed')).toEqual([]);
    expectForeignUntouched(world);
  });

  test('whose client was deleted by hand gets another, and the owner is told of the new config', async () => {
    await using world = await openWorld(testCase);
    const { body: peer } = await createPeer(world);
    world.stub.delete(ours(world)[0]?.id ?? '');
    await pass(world, 60);
    const [client, ...others] = ours(world);
    expect(others).toEqual([]);
    expect(client?.publicKey).not.toBe(peer.wg_public_key);
    const row = await findPeer(world.app.store, peer.id);
    expect(row).toMatchObject({ public_key: client?.publicKey, config_version: 2 });
    expect(await events(world, 'peer.config_changed')).toEqual([
      { peer_id: peer.id, user_id: world.alice.id, server_id: 1, config_version: 2 },
    ]);
    expect(await configOf(world, peer)).toMatchObject({ privateKey: client?.privateKey });
    await pass(world, 60);
    expect(await findPeer(world.app.store, peer.id)).toMatchObject({ config_version: 2 });
  });

  test('that was set up anew without its data has its new key in all configs, and the owners are told', async () => {
    await using world = await openWorld(testCase);
    const { body: peer } = await createPeer(world);
    const { url, password } = world.stub;
    await world.stub.goDown();
    const { version } = testCase;
    await using fresh = await startWgEasyStub({ version, port: Number(new URL(url).port), password });
    await pass(world, 60);
    const [client, ...others] = fresh.clients();
    expect(others).toEqual([]);
    expect(fresh.server.publicKey).not.toBe(world.stub.server.publicKey);
    expect(await configOf(world, peer)).toMatchObject({
      privateKey: client?.privateKey,
      publicKey: fresh.server.publicKey,
    });
    expect(await events(world, 'peer.config_changed')).toMatchObject([{ peer_id: peer.id }]);
    const { config_version } = (await findPeer(world.app.store, peer.id)) ?? {};
    expect(config_version).toBeGreaterThan(peer.config_version);
    await pass(world, 60);
    expect(await findPeer(world.app.store, peer.id)).toMatchObject({ config_version });
  });

  test('gets new keys for a device, and the old client goes', async () => {
    await using world = await openWorld(testCase);
    const { body: peer } = await createPeer(world);
    const [before] = ours(world);
    const token = await signIn(world);
    const rotate = world.app.rest<Peer>('POST', `/vpn_peers/${peer.id}/rotate`, { token, body: {} });
    const rotated = await whileTimePasses(world, rotate);
    expect(rotated.status, rotated.text).toBe(200);
    await pass(world, 1);
    const [client, ...others] = ours(world);
    expect(others).toEqual([]);
    expect(client?.publicKey).not.toBe(before?.publicKey);
    expect(rotated.body).toMatchObject({ wg_private_key: client?.privateKey, config_version: 2 });
    expectForeignUntouched(world);
  });

  test('loses the client of a removed device, even of one whose keys nobody learnt', async () => {
    await using world = await openWorld(testCase);
    const { body: peer } = await createPeer(world);
    const token = await signIn(world);
    expect((await world.app.rest('DELETE', `/vpn_peers/${peer.id}`, { token })).status).toBe(200);
    await pass(world, 1);
    expect(ours(world)).toEqual([]);
    world.stub.failNext('work_then_drop', 50);
    const pending = await createPeer(world);
    expect(pending.body.code).toBe('peer_pending');
    const { body: list } = await world.app.rest<Peer[]>('GET', '/vpn_peers', { token: await signIn(world) });
    for (const { id } of list) await world.app.rest('DELETE', `/vpn_peers/${id}`, { token: await signIn(world) });
    for (let n = 0; n < 10; n += 1) await pass(world, 60);
    expect(ours(world)).toEqual([]);
    expectForeignUntouched(world);
  });
});

import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { listPeers, listPublishedEvents, type PeerRow, publishOutboxEvents, updatePeer } from '@vpn-api/db';
import { FakeHost } from '@vpn-api/wg';
import {
  type SshdLab,
  skipWithoutSshd,
  startSshdLab,
  startWgEasyStub,
  startWireguardLab,
  type WgEasyStub,
  type WireguardLab,
} from '@vpn-api/wg/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { syncEnvServer } from '../../src/ops/env-server.ts';
import { ok, sellTariff } from '../e2e/shop.ts';
import { type App, type engines as allEngines, engines, type Person, startApp } from '../harness.ts';
import { HostWorld, type ServerView } from './host-world.ts';

type Engine = (typeof allEngines)[number];

interface Plan {
  readonly counts: Readonly<Record<'add' | 'change' | 'suspend' | 'remove', number>>;
  readonly changes: readonly {
    readonly action: string;
    readonly public_key: string | null;
    readonly addresses: readonly string[];
    readonly peer_id: number;
  }[];
  readonly conflicts: readonly unknown[];
  readonly foreign: number;
}

const POOL_V6 = 'fdcc:ad94:bacf:61a4::cafe:0/112';

/** Customers on a wg-easy that was added over the API, with a device each. */
class Shop implements AsyncDisposable {
  readonly app: App;
  readonly stub: WgEasyStub;
  readonly path: string;
  readonly #token: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(parts: Pick<Shop, 'app' | 'stub' | 'path'> & { token: string; stack: AsyncDisposableStack }) {
    this.app = parts.app;
    this.stub = parts.stub;
    this.path = parts.path;
    this.#token = parts.token;
    this.#stack = parts.stack;
  }

  static async open(engine: Engine, version: 14 | 15): Promise<Shop> {
    await using stack = new AsyncDisposableStack();
    const stub = stack.use(await startWgEasyStub({ version, clients: ['by hand'] }));
    const app = stack.use(await startApp({ engine, clock: 'system', env: { OUTBOUND_ALLOW: '127.0.0.0/8' } }));
    const { token } = await app.admin();
    const credentials = { password: stub.password };
    const body = { name: 'shop', driver: 'wg-easy', address: stub.url, credentials, pool_v4: '10.8.0.0/24' };
    const { id } = await ok(app.rest<{ id: number } & Record<string, unknown>>('POST', '/servers', { token, body }));
    const shop = new Shop({ app, stub, path: `/servers/${id}`, token, stack: stack.move() });
    await shop.apply();
    return shop;
  }

  call<T = Record<string, unknown>>(method: string, path: string, body: unknown = {}): Promise<T> {
    const options = { token: this.#token, ...(method === 'GET' ? {} : { body }) };
    return ok(this.app.rest<T & Record<string, unknown>>(method, path, options));
  }

  async customer(): Promise<Person> {
    const person = await this.app.register();
    const tariff = await sellTariff(this.app, this.#token);
    await this.call('POST', '/subscriptions/grant', { user_id: person.id, tariff_id: tariff.id });
    return person;
  }

  async device(): Promise<Person> {
    const person = await this.customer();
    await this.call('POST', '/vpn_peers', { user_id: person.id, server_id: Number(this.path.split('/').at(-1)) });
    return person;
  }

  async apply(): Promise<number> {
    const { outcome, changes } = await this.call<{ outcome: string; changes: number }>('POST', `${this.path}/apply`);
    expect(outcome).toBe('applied');
    return changes;
  }

  plan(): Promise<Plan> {
    return this.call<Plan>('POST', `${this.path}/plan`);
  }

  peers(): Promise<PeerRow[]> {
    return listPeers(this.app.store, {}, {});
  }

  /** Everything that stands in a client's config, and what tells it to fetch another one. */
  async configs(people: readonly Person[]): Promise<string[]> {
    const texts = people.map(async ({ token }) => {
      const { wg_quick } = await ok(this.app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token }));
      return wg_quick;
    });
    const versions = (await this.peers()).map(({ id, config_version }) => `${id}: version ${config_version}`);
    return [...(await Promise.all(texts)), ...versions];
  }

  told(): Promise<unknown[]> {
    return toldToFetch(this.app);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

async function toldToFetch({ store }: App): Promise<unknown[]> {
  await store.transaction((tx) => publishOutboxEvents(tx, 1_000));
  const events = await listPublishedEvents(store, { type: 'peer.config_changed' }, {});
  return events.map(({ payload }) => (JSON.parse(payload) as { peer_id: number }).peer_id);
}

/** The same host under another address. */
async function anotherAddress(url: string): Promise<AsyncDisposable & { readonly url: string }> {
  const { port } = new URL(url);
  const server = createServer((client) => {
    const upstream = connect(Number(port), '127.0.0.1');
    for (const socket of [client, upstream]) socket.on('error', () => {}).on('close', () => upstream.destroy());
    client.pipe(upstream).pipe(client);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => void server.close(),
  };
}

describe.each(engines)('a wg-easy 14 that is replaced, on %s', (engine) => {
  test('by a 15 with its data: the same keys and configs, nobody is told, and nothing is written to it', async () => {
    await using shop = await Shop.open(engine, 14);
    const people = [await shop.device(), await shop.device()];
    await shop.apply();
    const [configs, before] = [await shop.configs(people), await shop.peers()];
    shop.stub.restart(15);
    shop.stub.requests.length = 0;
    await using moved = await anotherAddress(shop.stub.url);
    const credentials = { password: shop.stub.password };
    const put = { address: moved.url, username: shop.stub.username, credentials };
    expect(await shop.call('PUT', shop.path, put)).toMatchObject({ mode: 'observe', peers: 2 });
    expect(await shop.call('POST', `${shop.path}/test`)).toMatchObject({ ok: true });
    const { counts, changes, foreign } = await shop.plan();
    // Version 15 gives everybody an IPv6 address, which is only to be learnt.
    expect([counts, foreign]).toEqual([{ add: 0, change: 2, suspend: 0, remove: 0 }, 1]);
    expect(changes.map(({ public_key }) => public_key)).toEqual(before.map(({ public_key }) => public_key));
    await shop.apply();
    expect(shop.stub.mutations()).toEqual([]);
    const keyless = (text: string) => text.replace(/, fdcc:[0-9a-f:]*\/128/, '');
    expect((await shop.configs(people)).map(keyless)).toEqual(configs);
    expect((await shop.peers()).every(({ wg_ip6 }) => wg_ip6?.startsWith('fdcc:'))).toBe(true);
    expect(await shop.told()).toEqual([]);
    expect((await shop.plan()).changes).toEqual([]);
  });

  test('by a fresh 15: new keys, which the plan says, the configs show and the owners are told of', async () => {
    await using shop = await Shop.open(engine, 14);
    const people = [await shop.device(), await shop.device()];
    await shop.apply();
    const before = await shop.peers();
    await using fresh = await startWgEasyStub({ version: 15, clients: ['by hand'] });
    const credentials = { password: fresh.password };
    await shop.call('PUT', shop.path, {
      address: fresh.url,
      username: fresh.username,
      credentials,
      public_key: null,
      endpoint: null,
    });
    const { changes } = await shop.plan();
    expect(changes).toMatchObject(before.map(({ id }) => ({ action: 'add', public_key: null, peer_id: id })));
    await shop.apply();
    const after = await shop.peers();
    const made = fresh.clients().filter(({ name }) => name !== 'by hand');
    expect(after.map(({ public_key }) => public_key).sort()).toEqual(made.map(({ publicKey }) => publicKey).sort());
    for (const [index, peer] of after.entries()) {
      expect(peer.config_version).toBeGreaterThan(before[index]?.config_version ?? Number.MAX_VALUE);
    }
    expect((await shop.told()).toSorted()).toEqual(after.map(({ id }) => id));
    const [config] = await shop.configs(people.slice(0, 1));
    expect(config).toContain(`PublicKey = ${fresh.server.publicKey}\n`);
    expect(config).toContain(
      `PrivateKey = ${made.find(({ publicKey }) => publicKey === after[0]?.public_key)?.privateKey}\n`,
    );
    expect(fresh.named('by hand')).toHaveLength(1);
  });
});

describe.skipIf(skipWithoutSshd())('a wg-easy that is replaced by a real host over SSH', () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;
  let shop: Shop;

  afterEach(async () => {
    await shop?.[Symbol.asyncDispose]();
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  const cases = engines.flatMap((engine) => ([14, 15] as const).map((version) => ({ engine, version })));
  test.each(cases)(
    'version $version, on $engine: the configs that customers have go on working',
    async ({ engine, version }) => {
      shop = await Shop.open(engine, version);
      const people = [await shop.device(), await shop.device()];
      const [connected] = people;
      if (connected === undefined) throw new Error();
      const unpaid = await shop.device();
      await shop.apply();
      const { periods } = await ok(
        shop.app.rest<{ periods: { id: number }[] } & Record<string, unknown>>('GET', '/auth/me/subscription', {
          token: unpaid.token,
        }),
      );
      await shop.call('POST', '/subscriptions/revoke', { period_id: periods[0]?.id, reason: 'did not pay' });
      await shop.apply();
      const [configs, before] = [await shop.configs(people), await shop.peers()];

      // The operator took along the private key; the address of the cable between the namespaces is the endpoint.
      wireguard = await startWireguardLab({ privateKey: shop.stub.privateKey, poolV4: '10.8.0.0/24', poolV6: POOL_V6 });
      const foreign = await wireguard.addForeignPeer('10.8.0.200/32');
      sshd = await startSshdLab({ interface: wireguard.interface });
      const { user, host, port, privateKey, hostFingerprints } = sshd.kit;
      await shop.call('PUT', shop.path, {
        ...{
          driver: 'ssh',
          address: `${user}@${host}:${port}`,
          credentials: { private_key: privateKey },
          privilege: 'kit',
        },
        ...{ host_fingerprint: hostFingerprints[0], interface: wireguard.interface },
        ...(version === 15 ? { pool_v6: POOL_V6 } : {}),
      });
      expect(await shop.call('POST', `${shop.path}/test`)).toMatchObject({ ok: true });
      const { counts, changes, conflicts } = await shop.plan();
      expect([counts, conflicts]).toEqual([{ add: 2, change: 0, suspend: 0, remove: 0 }, []]);
      const wanted = before.slice(0, 2).map(({ public_key, wg_ip, wg_ip6 }) => {
        return { public_key, addresses: [wg_ip, wg_ip6].filter((address) => address !== null) };
      });
      expect(changes.map(({ public_key, addresses }) => ({ public_key, addresses }))).toEqual(wanted);
      const mutations = shop.stub.mutations().length;
      expect(await shop.apply()).toBe(2);

      expect(await shop.configs(people)).toEqual(configs);
      expect(await shop.told()).toEqual([]);
      expect((await shop.plan()).changes).toEqual([]);
      expect(shop.stub.mutations()).toHaveLength(mutations);
      const onHost = await wireguard.dump();
      expect(onHost.find(({ publicKey }) => publicKey === foreign)?.allowedIps).toEqual(['10.8.0.200/32']);
      expect(onHost).toHaveLength(3);
      await wireguard.connectClient(configs[0] ?? '');
      expect(await wireguard.ping(5_000)).toBe(true);

      const newcomer = await shop.device();
      await shop.apply();
      const [peer] = (await shop.peers()).filter(({ user_id }) => user_id === newcomer.id);
      // Behind all that the wg-easy gave out.
      expect(peer?.wg_ip).toBe('10.8.0.6/32');
      await wireguard.connectClient((await shop.configs([newcomer]))[0] ?? '');
      expect(await wireguard.ping(5_000)).toBe(true);
    },
    60_000,
  );
});

describe.each(engines)('a host that chose the addresses gives way to one that does not, on %s', (engine) => {
  const SSH = { driver: 'ssh', address: 'vpn@new.example.com', credentials: { private_key: 'KEY' } };

  async function open() {
    const hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.addReported({ pool_v4: '10.42.0.0/24' });
    await hosts.ok('POST', `/servers/${server.id}/apply`, {});
    const add = async () => {
      const { peer } = await hosts.world.create(await hosts.world.customer(), { serverId: server.id });
      await hosts.app.settled();
      return hosts.world.row(peer.id);
    };
    const replace = async (body: Record<string, unknown> = {}) => {
      hosts.world.hosts.set(server.id, new FakeHost());
      return hosts.call<ServerView>('PUT', `/servers/${server.id}`, { ...SSH, ...body });
    };
    return { hosts, host, add, replace, [Symbol.asyncDispose]: () => hosts[Symbol.asyncDispose]() };
  }

  test('every peer is numbered by the address it has, under any pool that has it, and the next one goes elsewhere', async () => {
    await using world = await open();
    const before = [await world.add(), await world.add()];
    expect((await world.replace({ pool_v4: '10.42.0.0/16' })).body).toMatchObject({
      driver: 'ssh',
      keys: 'given',
      mode: 'observe',
    });
    for (const peer of before) {
      const { wg_ip, public_key, config_version } = peer;
      const index = Number(wg_ip?.split('.').at(-1)?.split('/')[0]);
      expect(await world.hosts.world.row(peer.id)).toMatchObject({
        wg_ip,
        public_key,
        config_version,
        address_index: index,
      });
    }
    const next = await world.add();
    expect(before.map(({ wg_ip }) => wg_ip)).not.toContain(next.wg_ip);
    expect(await toldToFetch(world.hosts.app)).toEqual([]);
  });

  test('a pool that does not have them is refused, and nothing is changed', async () => {
    await using world = await open();
    const peer = await world.add();
    const refused = await world.replace({ pool_v4: '10.43.0.0/24' });
    expect([refused.status, refused.body.issues]).toMatchObject([400, [{ path: 'pool_v4' }]]);
    expect(await world.hosts.world.row(peer.id)).toEqual(peer);
    expect((await world.hosts.row(peer.server_id)).driver).toBe('wg-easy');
  });

  test('who cannot keep an address gets another, and must fetch his config again', async () => {
    await using world = await open();
    const [stays, shared, odd] = [await world.add(), await world.add(), await world.add()];
    const patch = (id: number, columns: Partial<PeerRow>) =>
      world.hosts.world.store.transaction((tx) => updatePeer(tx, id, columns));
    await patch(shared.id, { wg_ip: stays.wg_ip });
    await patch(odd.id, { wg_ip6: 'fd00:42::99/128' });
    expect((await world.replace({ pool_v6: 'fd00:42::/112' })).status).toBe(200);
    const after = await Promise.all([stays, shared, odd].map(({ id }) => world.hosts.world.row(id)));
    // Who had no IPv6 goes on without, and with the config he has.
    expect(after.map(({ wg_ip, wg_ip6 }) => [wg_ip, wg_ip6])).toEqual([
      ['10.42.0.2/32', null],
      [expect.stringMatching(/^10\.42\.0\.\d+\/32$/), expect.stringMatching(/^fd00:42::/)],
      ['10.42.0.4/32', 'fd00:42::4/128'],
    ]);
    expect(new Set(after.map(({ wg_ip }) => wg_ip)).size).toBe(3);
    expect(after.map(({ config_version }) => config_version)).toEqual([1, 2, 2]);
    expect((await toldToFetch(world.hosts.app)).toSorted()).toEqual([shared.id, odd.id]);
  });

  test('who waited for keys gets them here, with a config of its own', async () => {
    await using world = await open();
    world.host.fault = 'down';
    const { peer } = await world.hosts.world.create(await world.hosts.world.customer(), { serverId: 2 });
    expect(peer.public_key).toBeNull();
    expect((await world.replace()).status).toBe(200);
    const row = await world.hosts.world.row(peer.id);
    expect(row).toMatchObject({ key_origin: 'server', config_version: 1, address_index: 2, wg_ip: '10.42.0.2/32' });
    expect(row.public_key).not.toBeNull();
    expect(row.private_key_sealed).not.toBeNull();
  });

  test('the other way round is refused while there are peers: their keys would be others', async () => {
    await using world = await open();
    const { server } = await world.hosts.live();
    await world.hosts.world.create(await world.hosts.world.customer(), { serverId: server.id });
    const easy = { driver: 'wg-easy', address: 'https://easy.example.com', credentials: { password: 'x' } };
    expect((await world.hosts.call('PUT', `/servers/${server.id}`, easy)).body.code).toBe('server_has_peers');
  });
});

describe.each(engines)('a host over SSH that is replaced by another, on %s', (engine) => {
  test('is planned with the same keys and addresses, and nobody has to fetch a config', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.live();
    const { peer } = await hosts.world.create(await hosts.world.customer(), { serverId: server.id });
    await hosts.app.settled();
    const before = await hosts.world.row(peer.id);
    const fresh = new FakeHost();
    const foreign = fresh.addForeignPeer(['10.99.0.1/32']);
    hosts.world.hosts.set(server.id, fresh);
    const put = { address: 'vpn@new.example.com', credentials: { private_key: 'KEY' } };
    expect(await hosts.ok('PUT', `/servers/${server.id}`, put)).toMatchObject({ mode: 'observe' });
    await hosts.app.settled();
    const { counts, changes } = await hosts.ok<Plan & Record<string, unknown>>('POST', `/servers/${server.id}/plan`);
    expect(counts).toEqual({ add: 1, change: 0, suspend: 0, remove: 0 });
    expect(changes).toMatchObject([{ public_key: before.public_key, addresses: [before.wg_ip] }]);
    await hosts.ok('POST', `/servers/${server.id}/apply`, {});
    expect(fresh.peers().map(({ publicKey }) => publicKey)).toEqual([foreign, before.public_key]);
    const { config_version, public_key, wg_ip } = before;
    expect(await hosts.world.row(peer.id)).toMatchObject({ config_version, public_key, wg_ip });
    expect(await toldToFetch(hosts.app)).toEqual([]);
  });
});

describe.each(engines)('the host in the settings, on %s', (engine) => {
  test('has its peers numbered when a wg-easy gives way, and is not driven without a pool for them', async () => {
    await using stub = await startWgEasyStub({ version: 14 });
    const env = { WG_EASY_URL: stub.url, WG_EASY_PASSWORD: stub.password };
    await using app = await startApp({ engine, clock: 'system', env });
    const person = await app.register();
    const { token } = await app.admin();
    const tariff = await sellTariff(app, token);
    await ok(app.rest('POST', '/subscriptions/grant', { token, body: { user_id: person.id, tariff_id: tariff.id } }));
    await ok(app.rest('POST', '/vpn_peers/self', { token: person.token, body: {} }));
    const { services } = app;
    const local = { ...services.config, host: { kind: 'local', mode: 'observe' } as const };
    const settings = (poolV4: string) => ({
      ...local,
      wireguard: { ...local.wireguard, poolV4, hostKeys: 'given' as const },
    });
    await expect(syncEnvServer({ ...services, config: settings('10.9.0.0/24') })).rejects.toThrow(
      'WG_POOL_V4 must have the address of every peer, 10.8.0.2/32 of peer 1 too',
    );
    expect(await listPeers(app.store, {})).toMatchObject([{ address_index: null }]);
    const row = await syncEnvServer({ ...services, config: settings('10.8.0.0/16') });
    expect(row).toMatchObject({ driver: 'local', keys: 'given', last_seen_at: null });
    expect(await listPeers(app.store, {})).toMatchObject([
      { address_index: 2, wg_ip: '10.8.0.2/32', config_version: 1 },
    ]);
  });

  test('is asked anew for its key when it is another one, and only another key makes configs old', async () => {
    await using first = await startWgEasyStub({ version: 14 });
    await using second = await startWgEasyStub({ version: 14 });
    await using again = await anotherAddress(second.url);
    const env = { WG_EASY_URL: first.url, WG_EASY_PASSWORD: first.password };
    await using app = await startApp({ engine, clock: 'system', env });
    const person = await app.register();
    const { token } = await app.admin();
    const tariff = await sellTariff(app, token);
    await ok(app.rest('POST', '/subscriptions/grant', { token, body: { user_id: person.id, tariff_id: tariff.id } }));
    await ok(app.rest('POST', '/vpn_peers/self', { token: person.token, body: {} }));
    const { services } = app;
    const goTo = async (url: string) => {
      await syncEnvServer({
        ...services,
        config: { ...services.config, host: { kind: 'wg-easy', mode: 'observe', url } } as never,
      });
      expect((await services.hosts.compare(1, { acceptedRemovals: 0 })).outcome).toBe('planned');
      const [peer] = await listPeers(app.store, {});
      return peer?.config_version;
    };
    expect(await goTo(second.url)).toBe(2);
    const config = await ok(app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token: person.token }));
    expect(config.wg_quick).toContain(`PublicKey = ${second.server.publicKey}\n`);
    expect(await goTo(again.url)).toBe(2);
  });
});

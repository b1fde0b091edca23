import { execFile } from 'node:child_process';
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { type Engine, findUserById } from '@vpn-api/db';
import { FakeHost, generateKeyPair, parseClientConfig } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { ok, pay, sellTariff, type Tariff } from '../e2e/shop.ts';
import { type App, engines, PASSWORD, type Person, startApp } from '../harness.ts';

/**
 * What was wrong with the service that this one replaces, one test a defect, under the numbers of its review. Defects of
 * accounts, tariffs, payments and subscriptions are tested beside those features, under the same names.
 */
describe.each(engines)('on %s', (engine) => {
  test('D7: no way of adding a device goes round the subscription', async () => {
    await using shop = await open(engine);
    const { app, host, admin } = shop;
    const user = await app.register();
    const key = await app.apiKey(['peers:write']);
    const tries: [string, string, unknown][] = [
      [user.token, '/vpn_peers', {}],
      [user.token, '/vpn_peers', { user_id: user.id }],
      [user.token, '/vpn_peers/self', {}],
      [key, '/vpn_peers', { user_id: user.id }],
      [admin.token, '/vpn_peers', { user_id: user.id }],
    ];
    for (const [token, path, body] of tries) {
      const answer = await app.rest('POST', path, { token, body });
      expect([answer.status, answer.body.detail], path).toEqual([403, 'no_active_subscription']);
    }
    await app.settled();
    expect(host.peers()).toEqual([]);
  });

  test('D14: the public key on the host belongs to the private key in the config', async () => {
    await using shop = await open(engine);
    const { token } = await shop.customer();
    const peer = await shop.addDevice(token);
    const config = await shop.config(token);
    expect(publicKeyOf(config.privateKey ?? '')).toBe(peer.wg_public_key);
    expect(peer.wg_private_key).toBe(config.privateKey);
    expect(config.publicKey).toBe(shop.host.publicKey);
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);
  });

  test('D15: a submitted key is honoured, and no other private key is made up for it', async () => {
    await using shop = await open(engine);
    const { app } = shop;
    const { token } = await shop.customer();
    const { publicKey } = generateKeyPair();
    const peer = await shop.addDevice(token, { wg_public_key: publicKey });
    expect(peer).toMatchObject({ wg_public_key: publicKey, wg_private_key: null });
    expect(await shop.keysOnHost()).toEqual([publicKey]);
    const refused = await app.rest('GET', '/vpn_peers/self/config', { token });
    expect([refused.status, refused.body.code]).toEqual([409, 'private_key_not_stored']);
    const template = await ok(app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config?template=true', { token }));
    expect(parseClientConfig(template.wg_quick).privateKey).toBeNull();
  });

  test('D16: no two devices share an address, whoever they belong to', async () => {
    await using shop = await open(engine, { WG_POOL_V4: '10.8.0.0/28' });
    const { app } = shop;
    const customers = [await shop.customer(), await shop.customer(), await shop.customer()];
    const peers = await Promise.all(customers.flatMap(({ token }) => [1, 2, 3, 4].map(() => shop.addDevice(token))));
    const addresses = peers.map(({ wg_ip }) => wg_ip);
    expect(new Set(addresses).size).toBe(12);
    // The network, the server and the broadcast address are nobody's.
    for (const taken of ['10.8.0.0/32', '10.8.0.1/32', '10.8.0.15/32']) expect(addresses).not.toContain(taken);
    await shop.addDevice((await shop.customer()).token);
    const full = await app.rest('POST', '/vpn_peers/self', { token: (await shop.customer()).token, body: {} });
    expect([full.status, full.body.code]).toEqual([503, 'no_capacity']);
  });

  test('D17: the host routes to a peer its own address and nothing else, whatever a client asked to route', async () => {
    await using shop = await open(engine);
    const { app, host } = shop;
    const [alice, bob] = [await shop.customer(), await shop.customer()];
    const first = await shop.addDevice(alice.token, { allowed_ips: '0.0.0.0/0' });
    const second = await shop.addDevice(bob.token, { allowed_ips: '0.0.0.0/0, ::/0' });
    await ok(app.rest('PUT', `/vpn_peers/${second.id}`, { token: bob.token, body: { allowed_ips: '10.0.0.0/8' } }));
    await app.settled();
    const routes = new Map(host.peers().map(({ publicKey, allowedIps }) => [String(publicKey), allowedIps]));
    expect(routes.get(first.wg_public_key)).toEqual([first.wg_ip]);
    expect(routes.get(second.wg_public_key)).toEqual([second.wg_ip]);
    expect((await shop.config(bob.token)).allowedIps).toEqual(['10.0.0.0/8']);
  });

  test('D18: nobody takes the address of another or of the server', async () => {
    await using shop = await open(engine);
    const { app, admin } = shop;
    const [victim, attacker] = [await shop.customer(), await shop.customer()];
    const target = await shop.addDevice(victim.token);
    const own = await shop.addDevice(attacker.token, { wg_ip: target.wg_ip, allowed_ips: target.wg_ip });
    expect(own.wg_ip).not.toBe(target.wg_ip);
    const put = (token: string, body: unknown) => app.rest('PUT', `/vpn_peers/${own.id}`, { token, body });
    expect((await put(attacker.token, { wg_ip: '10.8.0.200/32' })).status).toBe(403);
    expect((await put(attacker.token, { allowed_ips: target.wg_ip })).status).toBe(200);
    for (const address of [target.wg_ip, '10.8.0.1', '10.8.0.1/32', '192.0.2.1/32', '10.8.0.255']) {
      const refused = await put(admin.token, { wg_ip: address });
      expect([refused.status, refused.body.code], address).toEqual([409, 'address_conflict']);
    }
    expect((await put(admin.token, { wg_ip: '10.8.0.200' })).body.wg_ip).toBe('10.8.0.200/32');
    expect(await shop.routesOnHost()).toEqual({
      [target.wg_public_key]: [target.wg_ip],
      [own.wg_public_key]: ['10.8.0.200/32'],
    });
  });

  test.each(['\nPostUp = id', '\r\n[Peer]\nPublicKey = x', '#', '1.2.3.4\u2028PostUp = id', '10.0.0.0/8\u0085x'])(
    'D19: %j gets into no config, by no field',
    async (text) => {
      await using shop = await open(engine);
      const { app, admin } = shop;
      const { token } = await shop.customer();
      const peer = await shop.addDevice(token);
      for (const body of [{ wg_public_key: `${peer.wg_public_key}${text}` }, { wg_public_key: text }]) {
        expect((await app.rest('POST', '/vpn_peers/self', { token, body })).status).toBe(400);
        expect((await app.rest('POST', `/vpn_peers/${peer.id}/rotate`, { token, body })).status).toBe(400);
      }
      const put = (body: unknown, caller = token) => app.rest('PUT', `/vpn_peers/${peer.id}`, { token: caller, body });
      expect((await put({ allowed_ips: `10.0.0.0/8${text}` })).status).toBe(400);
      expect((await put({ wg_ip: `10.8.0.77${text}` }, admin.token)).status).not.toBe(200);
      await put({ device_name: `phone${text}` });
      const { wg_quick: file } = await ok(app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token }));
      expect(file).not.toContain('PostUp');
      expect(file).not.toContain('phone');
      expect(file.match(/^\[/gm)).toHaveLength(2);
      expect(() => parseClientConfig(file)).not.toThrow();
    },
  );

  test('D20: keys are unique in the database, times have a zone, and a removed user keeps his payments', async () => {
    await using shop = await open(engine);
    const { app, admin } = shop;
    const [first, second] = [await shop.customer(), await shop.customer()];
    const { publicKey } = generateKeyPair();
    const body = { wg_public_key: publicKey };
    const answers = await Promise.all(
      [first, second].map(({ token }) => app.rest('POST', '/vpn_peers/self', { token, body })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
    await ok(app.rest('DELETE', `/users/${first.id}`, { token: admin.token }));
    const row = await findUserById(app.store, first.id);
    expect(row?.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const path = `/payments?user_id=${first.id}`;
    const payments = await ok(app.rest<{ status: string }[]>('GET', path, { token: admin.token }));
    expect(payments.map(({ status }) => status)).toEqual(['completed']);
  });

  test('D21: an old key has access no longer once it was replaced, nor a removed one', async () => {
    await using shop = await open(engine);
    const { app } = shop;
    const { token } = await shop.customer();
    const peer = await shop.addDevice(token);
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);
    const rotated = await ok(app.rest<Device>('POST', `/vpn_peers/${peer.id}/rotate`, { token, body: {} }));
    expect(await shop.keysOnHost()).toEqual([rotated.wg_public_key]);
    expect(rotated.wg_ip).toBe(peer.wg_ip);
    expect((await shop.config(token)).privateKey).toBe(rotated.wg_private_key);
    await ok(app.rest('DELETE', `/vpn_peers/${peer.id}`, { token }));
    expect(await shop.keysOnHost()).toEqual([]);
  });

  test('D22: a peer that its host has not got says so, and gets there without being asked again', async () => {
    await using shop = await open(engine);
    const { app, host } = shop;
    const { token } = await shop.customer();
    host.fault = 'down';
    const peer = await shop.addDevice(token);
    await app.settled();
    const status = () => ok(app.rest('GET', `/vpn_peers/${peer.id}/status`, { token }));
    expect(await status()).toMatchObject({ allowed: true, state: 'pending', applied_at: null });
    expect((await status()).state).not.toBe('active');
    host.fault = null;
    app.clock.advance(600);
    await app.settled();
    expect(await status()).toMatchObject({ state: 'active', last_error: null });
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);

    host.fault = 'down';
    await ok(app.rest('DELETE', `/vpn_peers/${peer.id}`, { token }));
    await app.settled();
    expect(host.peers()).toHaveLength(1);
    host.fault = null;
    app.clock.advance(600);
    expect(await shop.keysOnHost()).toEqual([]);
  });

  test('D23: the end of a subscription takes the peer off the host and is shown as the end', async () => {
    await using shop = await open(engine);
    const { app } = shop;
    const customer = await shop.customer();
    const peer = await shop.addDevice(customer.token);
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);
    app.clock.advance(30 * 86_400 - 1);
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);
    app.clock.advance(1);
    expect(await shop.keysOnHost()).toEqual([]);
    const token = await shop.logIn(customer);
    expect((await app.rest('GET', '/auth/me/subscription', { token })).body).toBeNull();
    const state = await ok(app.rest('GET', `/vpn_peers/${peer.id}/status`, { token }));
    expect(state).toMatchObject({ allowed: false, reason: 'expired', state: 'suspended' });
    await pay(app, token, shop.tariff);
    expect(await shop.keysOnHost()).toEqual([peer.wg_public_key]);
  });

  test('D24: a host that does not answer holds up no request', async () => {
    await using shop = await open(engine);
    const { app, host } = shop;
    const customers = await Promise.all([1, 2, 3].map(() => shop.customer()));
    host.fault = 'hang';
    const start = performance.now();
    const calls = customers.flatMap(({ token }) => [
      ...Array.from({ length: 5 }, () => app.rest('POST', '/vpn_peers/self', { token, body: {} })),
      ...Array.from({ length: 5 }, () => app.rest('GET', '/auth/me', { token })),
    ]);
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual(calls.map(() => 200));
    // The host alone would have taken longer than that to be given up.
    expect(performance.now() - start).toBeLessThan(5_000);
    expect(host.calls.length).toBeGreaterThan(0);
    host.fault = null;
  });

  test('D28: no private or preshared key stands in the database in clear', async () => {
    await using shop = await open(engine);
    const { app } = shop;
    const { token } = await shop.customer();
    const headers = { 'idempotency-key': 'phone' };
    const peer = await ok(app.rest<Device>('POST', '/vpn_peers/self', { token, body: {}, headers }));
    const config = await shop.config(token);
    const rows = await Promise.all(
      (['peers', 'host_peers', 'idempotency_keys', 'audit_log', 'servers'] as const).map((table) =>
        app.store.kysely.selectFrom(table).selectAll().execute(),
      ),
    );
    const dump = JSON.stringify(rows);
    expect(dump).toContain(peer.wg_public_key);
    expect(dump).not.toContain(peer.wg_private_key);
    expect(dump).not.toContain(config.presharedKey);
    expect(app.logs.join('\n')).not.toContain(peer.wg_private_key);
  });

  test('D29: a private key is shown by the call that made it and by no other', async () => {
    await using shop = await open(engine);
    const { app, admin } = shop;
    const { id, token } = await shop.customer();
    const peer = await shop.addDevice(token);
    expect(peer.wg_private_key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    const body = { device_name: 'new name' };
    for (const caller of [token, admin.token]) {
      const answers = [
        await app.rest('GET', '/vpn_peers', { token: caller }),
        await app.rest('GET', `/vpn_peers/${peer.id}`, { token: caller }),
        await app.rest('PUT', `/vpn_peers/${peer.id}`, { token: caller, body }),
        await app.rest('POST', `/vpn_peers/${peer.id}/deactivate`, { token: caller }),
        await app.rest('POST', `/vpn_peers/${peer.id}/activate`, { token: caller }),
        await app.rest('GET', `/vpn_peers/${peer.id}/status`, { token: caller }),
        await app.rest('GET', `/users/${id}/state`, { token: caller }),
      ];
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
      expect(answers.filter(({ text }) => text.includes(peer.wg_private_key))).toEqual([]);
    }
  });

  test('D40: a subscription can be read right after it was paid', async () => {
    await using shop = await open(engine);
    const { token } = await shop.customer();
    const read = await shop.app.rest('GET', '/auth/me/subscription', { token });
    expect([read.status, read.body.status, read.body.days_remaining]).toEqual([200, 'active', 30]);
  });

  test('D41: lists are bounded and ordered, and pages neither repeat nor miss a row', async () => {
    await using shop = await open(engine);
    const { app, admin } = shop;
    const { token } = await shop.customer();
    for (const path of ['/payments', '/vpn_peers', '/tariffs', '/users', '/subscriptions', '/api_keys']) {
      for (const query of ['limit=100000', 'limit=0', 'limit=-1', 'skip=-1']) {
        expect((await app.rest('GET', `${path}?${query}`, { token: admin.token })).status, path).toBe(400);
      }
    }
    for (let count = 0; count < 5; count += 1) await shop.addDevice(token);
    const page = (query: string) => ok(app.rest<Device[]>('GET', `/vpn_peers?limit=2&${query}`, { token }));
    const seen: number[] = [];
    for (let rows = await page('after_id=0'); rows.length > 0; rows = await page(`after_id=${seen.at(-1)}`)) {
      seen.push(...rows.map(({ id }) => id));
    }
    const skipped = [...(await page('skip=0')), ...(await page('skip=2')), ...(await page('skip=4'))];
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(new Set(seen).size).toBe(5);
    expect(skipped.map(({ id }) => id)).toEqual(seen);
  });

  test('D42: it tells that it is alive and ready, logs JSON lines, and keeps a record of what admins do', async () => {
    await using shop = await open(engine);
    const { app, admin } = shop;
    expect((await app.rest('GET', '/health')).body).toEqual({ status: 'ok' });
    expect((await app.rest('GET', '/ready')).body).toEqual({ status: 'ready' });
    expect((await app.rest('GET', '/metrics')).text).toContain('# TYPE');
    await app.rest('POST', `/users/${admin.id}/revoke_sessions`, { token: admin.token });
    const audit = await app.store.kysely.selectFrom('audit_log').selectAll().execute();
    expect(audit.map(({ action }) => action)).toContain('tariff.create');
    for (const line of app.logs) {
      expect(JSON.parse(line)).toMatchObject({ level: expect.any(String), time: expect.any(String) });
    }
  });
});

describe('of the configuration and the repository', () => {
  const production = {
    NODE_ENV: 'production',
    DATABASE_URL: 'postgresql://vpn:secret@db.example/vpn',
    SECRET_KEY: randomBytes(32).toString('base64'),
    CONFIG_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    PROMOTE_SECRET: randomBytes(32).toString('base64'),
  };
  const problemOf = (env: Record<string, string>): string => {
    try {
      loadConfig(env);
      return '';
    } catch (error) {
      if (error instanceof ConfigError) return error.message;
      throw error;
    }
  };

  test('the configuration that these tests take from is a good one', () => {
    expect(problemOf(production)).toBe('');
  });

  test('D30: without CONFIG_ENCRYPTION_KEY it does not start', () => {
    const { CONFIG_ENCRYPTION_KEY: _, ...rest } = production;
    expect(problemOf(rest)).toContain('CONFIG_ENCRYPTION_KEY');
    expect(problemOf({ ...production, CONFIG_ENCRYPTION_KEY: 'short' })).toContain('CONFIG_ENCRYPTION_KEY');
  });

  test('D31: without SECRET_KEY it does not start', () => {
    const { SECRET_KEY: _, ...rest } = production;
    expect(problemOf(rest)).toContain('SECRET_KEY must be set');
  });

  test('D32: the repository holds no database, dump of data, log or secret, and the code no host of an operator', async () => {
    const { stdout } = await promisify(execFile)('git', ['ls-files', '--full-name', ':/'], {
      cwd: import.meta.dirname,
    });
    const names = stdout.split('\n').filter((name) => name !== '');
    expect(names.length).toBeGreaterThan(100);
    const unwanted =
      /(?:\.db|\.sqlite3?|\.log|\.pem|\.key|\.dump|\.tar|\.gz|\.pyc)$|(?:^|\/)(?:\.env(?:\..*)?|id_ed25519|id_rsa)$/;
    expect(names.filter((name) => unwanted.test(name) && !name.endsWith('.env.example'))).toEqual([]);
    const { config } = loadConfig(production);
    expect([config.wireguard.endpoint, config.wireguard.serverPublicKey, config.host.kind]).toEqual([
      undefined,
      undefined,
      'none',
    ]);
  });
});

interface Device {
  readonly id: number;
  readonly wg_public_key: string;
  readonly wg_private_key: string;
  readonly wg_ip: string;
}

/** A server with one fake host and a tariff for ten devices. */
interface Shop extends AsyncDisposable {
  readonly app: App;
  readonly host: FakeHost;
  readonly admin: Person;
  readonly tariff: Tariff;
  /** Registered and paid. */
  customer(): Promise<Person>;
  logIn(person: Person): Promise<string>;
  addDevice(token: string, body?: Record<string, unknown>): Promise<Device>;
  config(token: string): Promise<ReturnType<typeof parseClientConfig>>;
  keysOnHost(): Promise<string[]>;
  routesOnHost(): Promise<Record<string, readonly string[]>>;
}

async function open(engine: Engine, env: Record<string, string> = {}): Promise<Shop> {
  const host = new FakeHost();
  const app = await startApp({
    engine,
    env: { WG_APPLY_ENABLED: '1', WG_ENDPOINT: 'vpn.example.com:51820', ...env },
    openDriver: () => host.driver(),
  });
  const admin = await app.admin();
  const tariff = await sellTariff(app, admin.token, 10);
  const onHost = async () => {
    await app.settled();
    return host.peers().filter(({ enabled }) => enabled);
  };
  return {
    app,
    host,
    admin,
    tariff,
    customer: async () => {
      const person = await app.register();
      await pay(app, person.token, tariff);
      return person;
    },
    logIn: async ({ email }) => {
      const body = { email, password: PASSWORD };
      return (await ok(app.rest<{ access_token: string }>('POST', '/auth/login', { body }))).access_token;
    },
    addDevice: (token, body = {}) => ok(app.rest<Device>('POST', '/vpn_peers/self', { token, body })),
    config: async (token) => {
      const { wg_quick } = await ok(app.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token }));
      return parseClientConfig(wg_quick);
    },
    keysOnHost: async () => (await onHost()).map(({ publicKey }): string => publicKey),
    routesOnHost: async () =>
      Object.fromEntries((await onHost()).map(({ publicKey, allowedIps }) => [publicKey, allowedIps])),
    [Symbol.asyncDispose]: () => app[Symbol.asyncDispose](),
  };
}

/** What `wg pubkey` answers, computed without our own code. */
function publicKeyOf(privateKey: string): string {
  const prefix = Buffer.from('302e020100300506032b656e04220420', 'hex');
  const key = createPrivateKey({
    key: Buffer.concat([prefix, Buffer.from(privateKey, 'base64')]),
    format: 'der',
    type: 'pkcs8',
  });
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
}

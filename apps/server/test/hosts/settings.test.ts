import { listServers } from '@vpn-api/db';
import { FakeHost } from '@vpn-api/wg';
import { startWgEasyStub } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { syncEnvServer } from '../../src/ops/env-server.ts';
import { openCredentials } from '../../src/ops/host-credentials.ts';
import { type App, engines, startApp } from '../harness.ts';
import { World } from '../reconcile/world.ts';

async function defaultServer({ store }: App) {
  const [server] = await listServers(store);
  if (server === undefined) throw new Error('no server');
  return server;
}

describe.each(engines)('settings that change at a start, on %s', (engine) => {
  test('ask clients to fetch their configs again when something else stands in them, and only then', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    const { config } = world.services;
    const startWith = async (wireguard: Partial<Config['wireguard']>) => {
      await syncEnvServer({
        ...world.services,
        config: { ...config, wireguard: { ...config.wireguard, ...wireguard } },
      });
      return (await world.row(peer.id)).config_version;
    };
    expect(await startWith({})).toBe(1);
    expect(await startWith({ clientAllowedIps: ['10.0.0.0/8'] })).toBe(1);
    expect(await startWith({ dns: ['9.9.9.9'] })).toBe(2);
    expect(await startWith({ dns: ['9.9.9.9'] })).toBe(2);
    expect(await startWith({ dns: ['9.9.9.9'], endpoint: 'other.example.com:51820' })).toBe(3);
  });
});

describe('the settings of the default server', () => {
  test.each([
    ['the user that they name', { WG_EASY_USERNAME: 'operator' }, null],
    ['admin unless they name one', {}, 'auth_failed: '],
  ])('log in to a wg-easy 15 as %s', async (_, user, error) => {
    await using stub = await startWgEasyStub({ version: 15, username: 'operator' });
    const env = { WG_EASY_URL: stub.url, WG_EASY_PASSWORD: stub.password, ...user };
    await using app = await startApp({ engine: 'sqlite', env });
    await app.settled();
    const server = await defaultServer(app);
    expect(server.last_error?.slice(0, 13) ?? null).toBe(error);
    expect(server.last_seen_at !== null).toBe(error === null);
  });

  test.each([14, 15] as const)('may hold the key of a wg-easy %i in place of a password', async (version) => {
    await using stub = await startWgEasyStub({ version });
    const env = { WG_EASY_URL: stub.url, WG_API_KEY: stub.password };
    await using app = await startApp({ engine: 'sqlite', env });
    await app.settled();
    const server = await defaultServer(app);
    expect(server).toMatchObject({ last_error: null, last_seen_at: app.clock.now() });
    expect(openCredentials(app.services, server)).toEqual({ apiKey: stub.password });
    expect(JSON.stringify(server)).not.toContain(stub.password);
  });

  test('name the scripts of the operator for everything that is done on the host', async () => {
    const scripts = { apply: '/opt/wg/apply.sh', remove: '/opt/wg/remove.sh', generate: '/opt/wg/generate.sh' };
    const host = new FakeHost({ keys: 'reported', pool: '10.8.0.0/24' });
    const opened: unknown[] = [];
    await using app = await startApp({
      engine: 'sqlite',
      env: {
        ...{ WG_APPLY_ENABLED: '1', WG_KEY_POLICY: 'host', WG_INTERFACE: 'wg7' },
        ...{ WG_APPLY_SCRIPT: scripts.apply, WG_REMOVE_SCRIPT: scripts.remove, WG_GEN_SCRIPT: scripts.generate },
      },
      openDriver: (row) => {
        opened.push({ interface: row.interface, keys: row.keys, scripts: JSON.parse(row.scripts) });
        return host.driver();
      },
    });
    await app.settled();
    expect(opened).toEqual([{ interface: 'wg7', keys: 'reported', scripts }]);
  });
});

import { type SshdLab, skipWithoutSshd, startSshdLab, startWireguardLab, type WireguardLab } from '@vpn-api/wg/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sellTariff } from '../e2e/shop.ts';
import { engines, startApp } from '../harness.ts';
import type { ServerView } from './host-world.ts';

interface Checks {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean | null; readonly message: string }[];
}

describe.skipIf(skipWithoutSshd())('a real host over SSH that is added over the API', () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: '10.96.0.0/24' });
    sshd = await startSshdLab({ interface: wireguard.interface });
  });

  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  test.each(engines)(
    'on %s: tested, pinned, planned, applied, and a customer is live on it',
    async (engine) => {
      await using app = await startApp({ engine, clock: 'system', env: { OUTBOUND_ALLOW: '127.0.0.0/8' } });
      const { token } = await app.admin();
      const ok = async <T = ServerView>(method: string, path: string, body: unknown = {}): Promise<T> => {
        const answer = await app.rest<T>(method, path, { token, ...(method === 'GET' ? {} : { body }) });
        expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(200);
        return answer.body;
      };
      const { user, host, port, privateKey } = sshd.kit;
      const { id } = await ok('POST', '/servers', {
        ...{ name: 'real', driver: 'ssh', address: `${user}@${host}:${port}`, privilege: 'kit' },
        ...{ interface: wireguard.interface, pool_v4: '10.96.0.0/24', credentials: { private_key: privateKey } },
      });
      const path = `/servers/${id}`;

      const unpinned = await ok<Checks>('POST', `${path}/test`);
      expect(unpinned).toMatchObject({ ok: false });
      const shown = /SHA256:[A-Za-z0-9+/]{43}/.exec(unpinned.checks.at(-1)?.message ?? '')?.[0] ?? '';
      expect(sshd.fingerprints).toContain(shown);
      expect((await app.rest('POST', `${path}/plan`, { token, body: {} })).body.code).toBe('host_auth_failed');

      await ok('PUT', path, { host_fingerprint: shown });
      const pinned = await ok<Checks>('POST', `${path}/test`);
      expect(pinned).toMatchObject({ ok: true });
      expect(await ok('GET', path)).toMatchObject({
        public_key: wireguard.publicKey,
        endpoint: `${host}:${wireguard.listenPort}`,
      });

      const customer = await app.register();
      const tariff = await sellTariff(app, token);
      await ok('POST', '/subscriptions/grant', { user_id: customer.id, tariff_id: tariff.id });
      const peer = await ok<{ wg_public_key: string }>('POST', '/vpn_peers', { user_id: customer.id, server_id: id });
      const plan = await ok<{ changes: readonly { action: string; public_key: string }[] }>('POST', `${path}/plan`);
      expect(plan.changes).toMatchObject([{ action: 'add', public_key: peer.wg_public_key }]);
      expect(await ok('POST', `${path}/apply`)).toMatchObject({ outcome: 'applied', changes: 1 });
      expect(JSON.stringify(await wireguard.dump())).toContain(peer.wg_public_key);
      await ok('DELETE', `/users/${customer.id}`);
      await expect
        .poll(async () => JSON.stringify(await wireguard.dump()), { timeout: 20_000 })
        .not.toContain(peer.wg_public_key);
    },
    60_000,
  );
});

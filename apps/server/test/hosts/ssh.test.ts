import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findPeer, listServers } from '@vpn-api/db';
import { parseClientConfig } from '@vpn-api/wg';
import {
  type SshdLab,
  type SshTarget,
  skipWithoutSshd,
  startSshdLab,
  startWireguardLab,
  type WireguardLab,
} from '@vpn-api/wg/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../e2e/eventually.ts';
import { type App, engines, startApp } from '../harness.ts';

const run = promisify(execFile);
const WITHIN_MS = 20_000;
const POOL = '10.97.0.0/24';

interface Peer {
  readonly id: number;
  readonly wg_public_key: string;
  readonly wg_private_key: string | null;
}

describe.skipIf(skipWithoutSshd())('a real host over SSH as the default server', () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;
  let folder: string;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: POOL });
    sshd = await startSshdLab({ interface: wireguard.interface });
    folder = await mkdtemp(join(tmpdir(), 'vpn-ssh-'));
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  async function settingsFor({ user, host, port, privateKey, hostFingerprints }: SshTarget) {
    const keyFile = join(folder, `${user}-${randomUUID()}`);
    await writeFile(keyFile, privateKey, { mode: 0o600 });
    return {
      WG_HOST_SSH: `${user}@${host}:${port}`,
      WG_HOST_SSH_KEY: keyFile,
      WG_HOST_FINGERPRINT: hostFingerprints[0] ?? '',
      WG_APPLY_ENABLED: '1',
      WG_INTERFACE: wireguard.interface,
      WG_POOL_V4: POOL,
      WG_ENDPOINT: 'vpn.example.com:51820',
    };
  }

  async function sell(app: App) {
    const customer = await app.register();
    const { token } = await app.admin();
    const tariff = { name: randomUUID(), duration_days: 30, price: '5.00', currency: 'USD', device_limit: 5 };
    const sold = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: tariff });
    const grant = { user_id: customer.id, tariff_id: sold.body.id };
    expect((await app.rest('POST', '/subscriptions/grant', { token, body: grant })).status).toBe(200);
    return customer;
  }

  async function keysOnHost(): Promise<readonly string[]> {
    const { stdout } = await run('wg', ['show', wireguard.interface, 'peers']);
    return stdout.split('\n').filter((key) => key !== '');
  }

  describe.each(engines)('on %s', (engine) => {
    test.each([
      ['an account with sudo for wg', 'sudo', 'db'],
      ['the host kit', 'kit', 'db'],
      ['the host kit, which makes the keys', 'kit', 'host'],
    ] as const)('%s has who paid, and nobody else', async (_, privilege, policy) => {
      const env = { WG_HOST_PRIVILEGE: privilege, WG_KEY_POLICY: policy, ...(await settingsFor(sshd[privilege])) };
      await using app = await startApp({ engine, env, clock: 'system' });
      const { token, id } = await sell(app);
      const foreign = await keysOnHost();
      const created = await app.rest<Peer>('POST', '/vpn_peers/self', { token, body: {} });
      expect(created.status, created.text).toBe(200);
      const { id: peerId, wg_public_key: key } = created.body;
      await eventually('the peer is on the host', WITHIN_MS, async () => (await keysOnHost()).includes(key));
      const config = await app.rest<{ wg_quick: string }>('GET', `/vpn_peers/${peerId}/config`, { token });
      expect(config.status, config.text).toBe(200);
      expect(parseClientConfig(config.body.wg_quick)).toMatchObject({
        privateKey: created.body.wg_private_key,
        publicKey: wireguard.publicKey,
        addresses: ['10.97.0.2/32'],
      });
      await eventually('that is recorded', WITHIN_MS, async () => {
        const peer = await findPeer(app.store, peerId);
        return peer?.applied_state === 'present' && peer.last_error === null;
      });
      const { token: boss } = await app.admin();
      expect((await app.rest('POST', `/users/${id}/block`, { token: boss })).status).toBe(200);
      await eventually('the peer is gone', WITHIN_MS, async () => !(await keysOnHost()).includes(key));
      expect([...(await keysOnHost())].sort()).toEqual([...foreign].sort());
    });

    test('a host that shows another key than the pinned one is not driven, and the error names its key', async () => {
      const settings = await settingsFor(sshd.sudo);
      const env = { ...settings, WG_HOST_FINGERPRINT: `SHA256:${'A'.repeat(43)}` };
      await using app = await startApp({ engine, env, clock: 'system' });
      await eventually('the error names the key', WITHIN_MS, async () => {
        const [server] = await listServers(app.store);
        return sshd.fingerprints.some((fingerprint) => server?.last_error?.includes(fingerprint));
      });
    });

    test('a host that is only observed gets nothing', async () => {
      const env = { ...(await settingsFor(sshd.sudo)), WG_APPLY_ENABLED: '0' };
      await using app = await startApp({ engine, env, clock: 'system' });
      const before = await keysOnHost();
      const { token } = await sell(app);
      const { body: peer } = await app.rest<Peer>('POST', '/vpn_peers/self', { token, body: {} });
      await eventually('the change is planned', WITHIN_MS, async () => {
        const [server] = await listServers(app.store);
        return server?.pending_changes === 1 && server.mode === 'observe';
      });
      expect(await keysOnHost()).toEqual(before);
      expect(await findPeer(app.store, peer.id)).toMatchObject({ applied_state: 'none' });
    });
  });

  test('a key file that is not there stops the start in a sentence', async () => {
    const env = { ...(await settingsFor(sshd.sudo)), WG_HOST_SSH_KEY: join(folder, 'nothing') };
    await expect(startApp({ engine: 'sqlite', env })).rejects.toThrow(
      /WG_HOST_SSH_KEY: the private key .* cannot be read/,
    );
  });
});

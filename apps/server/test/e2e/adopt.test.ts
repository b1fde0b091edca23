import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openTestStore } from '@vpn-api/db/testing';
import { generateKeyPair, PRIVATE_KEY_PLACEHOLDER, printClientConfig } from '@vpn-api/wg';
import { skipWithoutWireguard, startWireguardLab, type WireguardLab } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import { engines, PROMOTE_SECRET } from '../harness.ts';
import { counterAt, ServerProcess, secrets, signUp, temporaryFolder } from './server-process.ts';
import { ok, pay, sellTariff } from './shop.ts';

const run = promisify(execFile);
const CLI = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** Pings without a pause until it is told to end, and counts. */
function keepPinging(lab: WireguardLab) {
  const counts = { answered: 0, lost: 0 };
  let isOver = false;
  const done = (async () => {
    while (!isOver) counts[(await lab.ping(1_000)) ? 'answered' : 'lost'] += 1;
  })();
  return async () => {
    isOver = true;
    await done;
    return counts;
  };
}

describe.skipIf(skipWithoutWireguard())('a WireGuard host that is in use', () => {
  test.concurrent.each(engines)(
    'is adopted and driven without one lost packet or a new handshake, on %s',
    async (engine) => {
      await using lab = await startWireguardLab({ poolV4: '10.94.0.0/24' });
      await using store = await openTestStore(engine, { file: true });
      await using folder = await temporaryFolder();
      // What runs before: a customer, and a peer that is nobody's.
      const device = generateKeyPair();
      await run('wg', ['set', lab.interface, 'peer', device.publicKey, 'allowed-ips', '10.94.0.7/32']);
      const foreign = await lab.addForeignPeer('10.94.0.9/32');
      await lab.connectClient(
        printClientConfig({
          ...{ privateKey: device.privateKey, addresses: ['10.94.0.7/32'], dns: [], mtu: 1420, presharedKey: null },
          ...{
            publicKey: lab.publicKey,
            allowedIps: ['10.94.0.0/24'],
            persistentKeepalive: 25,
            endpoint: lab.endpoint,
          },
        }),
      );
      expect(await lab.ping(10_000)).toBe(true);
      const inUse = async () => (await lab.dump()).find(({ publicKey }) => publicKey === device.publicKey);
      const before = await inUse();

      const env = (mode: '0' | '1') => ({
        ...{ ...secrets, PORT: '0', RATE_LIMITS: 'auth=0,default=0', DATABASE_URL: store.url, DATA_DIR: folder.path },
        ...{ WG_APPLY_ENABLED: mode, WG_INTERFACE: lab.interface, WG_ENDPOINT: lab.endpoint, WG_POOL_V4: lab.poolV4 },
      });
      const adopt = async (...args: readonly string[]) => {
        const words = ['--conditions=@vpn-api/source', CLI, 'adopt', '--server', 'default', ...args];
        const { stdout } = await run(process.execPath, words, {
          cwd: folder.path,
          env: { PATH: process.env.PATH, ...env('0') },
        });
        return stdout;
      };
      const stopPinging = keepPinging(lab);

      // An empty database drives nothing: the first start only makes the row of the host.
      await using first = new ServerProcess({ cwd: folder.path, env: env('1') });
      await first.ready();
      await first.end('SIGTERM');
      await using observing = new ServerProcess({ cwd: folder.path, env: env('0') });
      let url = await observing.ready();
      const counter = counterAt(() => url);
      const admin = await signUp(counter, 'admin@example.com');
      await ok(counter.rest('POST', `/auth/admin/promote?user_id=${admin.id}&secret=${PROMOTE_SECRET}`));
      const customer = await signUp(counter, 'customer@example.com');
      await pay(counter, customer.token, await sellTariff(counter, admin.token));
      const file = join(folder.path, 'owners.csv');
      await writeFile(file, `${device.publicKey}, user:${customer.id}, Phone\n`);
      expect(await adopt('--users', file)).toContain('1 of 2 peers would be adopted; --apply does it.');
      expect(await adopt('--users', file, '--apply')).toContain('1 of 2 peers were adopted. The host was only read.');
      expect(await adopt('--users', file, '--apply')).toContain('0 of 2 peers were adopted.');
      const plan = await ok(counter.rest('POST', '/servers/1/plan', { token: admin.token, body: {} }));
      expect(plan).toMatchObject({ changes: [], unchanged: 1, foreign: 1 });
      await observing.end('SIGTERM');

      await using driving = new ServerProcess({ cwd: folder.path, env: env('1') });
      url = await driving.ready();
      const applied = await ok(counter.rest('POST', '/servers/1/apply', { token: admin.token, body: {} }));
      expect(applied).toMatchObject({ outcome: 'applied', changes: 0 });
      const [peer] = await ok(
        counter.rest<{ id: number; state: string }[]>('GET', '/vpn_peers', { token: customer.token }),
      );
      expect(peer).toMatchObject({ state: 'active', device_name: 'Phone', wg_ip: '10.94.0.7/32' });
      const config = await ok(
        counter.rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config?template=true', { token: customer.token }),
      );

      const { answered, lost } = await stopPinging();
      expect(lost).toBe(0);
      expect(answered).toBeGreaterThan(10);
      const after = await inUse();
      expect(after?.lastHandshakeAt).toBe(before?.lastHandshakeAt);
      expect(after?.rxBytes).toBeGreaterThan(before?.rxBytes ?? 0);
      expect((await lab.dump()).find(({ publicKey }) => publicKey === foreign)?.allowedIps).toEqual(['10.94.0.9/32']);
      await lab.connectClient(config.wg_quick.replace(PRIVATE_KEY_PLACEHOLDER, device.privateKey));
      expect(await lab.ping(10_000)).toBe(true);
    },
    120_000,
  );
});

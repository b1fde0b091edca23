import type { ServerRow } from '@vpn-api/db';
import { DriverError, FakeHost } from '@vpn-api/wg';
import ssh2 from 'ssh2';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { SecretBox } from '../../src/crypto/secret-box.ts';
import { DriverPool, driverOpener } from '../../src/jobs/drivers.ts';
import { createLogger } from '../../src/obs/log.ts';
import { type HostCredentials, sealCredentials } from '../../src/ops/host-credentials.ts';

const { config } = loadConfig({
  NODE_ENV: 'test',
  SECRET_KEY: 'test-secret-key-of-more-than-thirty-two-bytes',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 3).toString('base64'),
});
const secretBox = new SecretBox(config.secrets.encryptionKeys);
const openDriver = driverOpener({ config, secretBox, log: createLogger({ level: 'error', write: () => {} }) });

const row = {
  ...{ id: 1, name: 'default', driver: 'none', keys: 'given', interface: 'wg0', public_key: null, origin: 'api' },
  ...{
    address: null,
    username: null,
    credentials_sealed: null,
    host_fingerprint: null,
    privilege: 'direct',
    scripts: '{}',
  },
} as ServerRow;

/** What a host key looks like. */
const PIN = `SHA256:${'A'.repeat(43)}`;

describe('the pool of drivers', () => {
  test('opens one driver for each server, and another when its row names another host', async () => {
    const { pool, opened, closed } = observedPool();
    const driver = pool.driverFor(row);
    expect(pool.driverFor({ ...row, pending_changes: 3 })).toBe(driver);
    expect(pool.driverFor({ ...row, id: 2 })).not.toBe(driver);
    expect(pool.driverFor({ ...row, interface: 'wg1' })).not.toBe(driver);
    expect(opened).toEqual(['1 wg0', '2 wg0', '1 wg1']);
    expect(closed).toEqual(['1 wg0']);
  });

  test('closes them all at the end, also when one cannot be closed', async () => {
    const { pool, opened, closed } = observedPool({ failing: 1 });
    pool.driverFor(row);
    pool.driverFor({ ...row, id: 2 });
    await pool[Symbol.asyncDispose]();
    expect(closed).toEqual(opened);
  });

  test('keeps what a server without a host was told, as long as it lasts', async () => {
    await using pool = new DriverPool(openDriver);
    const signal = new AbortController().signal;
    const { publicKey } = new FakeHost();
    const change = { type: 'set', publicKey, presharedKey: null, addresses: ['10.8.0.2/32'], tag: 'a' } as const;
    await pool.driverFor(row).apply([change], signal);
    expect(await pool.driverFor(row).list(signal)).toMatchObject([{ publicKey }]);
    expect(await pool.driverFor({ ...row, id: 2 }).list(signal)).toEqual([]);
  });

  test('opens another when anything changes that the driver depends on, and only then', () => {
    const { pool, opened } = observedPool();
    const changes = [
      { driver: 'ssh' },
      { keys: 'reported' },
      { address: 'vpn@host' },
      { username: 'admin' },
      { credentials_sealed: 'other' },
      { host_fingerprint: 'SHA256:x' },
      { privilege: 'kit' },
      { scripts: '{"apply":"/x"}' },
    ] as const;
    for (const change of changes) pool.driverFor({ ...row, ...change });
    expect(opened).toHaveLength(changes.length);
    pool.driverFor({ ...row, ...changes.at(-1), last_error: 'x', lease_token: 9, endpoint: 'e:1' });
    expect(opened).toHaveLength(changes.length);
  });
});

describe('the driver of a row', () => {
  const wgEasy = { ...row, driver: 'wg-easy', keys: 'reported', address: 'http://10.0.0.5:51821' } as const;
  const ssh = { ...row, driver: 'ssh', address: 'vpn@host', host_fingerprint: PIN } as const;
  const sealed = (credentials: HostCredentials) => ({
    credentials_sealed: sealCredentials({ secretBox }, row.id, credentials),
  });

  test('is what the row says', async () => {
    expect(openDriver({ ...row, driver: 'local' })).toMatchObject({ kind: 'local', keys: 'given' });
    const scripts = JSON.stringify({ generate: '/opt/gen.sh' });
    expect(openDriver({ ...row, driver: 'local', keys: 'reported', scripts })).toMatchObject({ keys: 'reported' });
    await using easy = openDriver({ ...wgEasy, origin: 'env', ...sealed({ password: 'x' }) });
    expect(easy).toMatchObject({ kind: 'wg-easy', keys: 'reported', suspend: 'disable' });
    await using shell = openDriver({ ...ssh, ...sealed({ privateKey: generateSshKey() }) });
    expect(shell).toMatchObject({ kind: 'ssh', keys: 'given' });
  });

  test('refuses a row that names no host, saying nothing of its secrets', () => {
    for (const broken of [
      { ...wgEasy, address: null },
      { ...wgEasy, address: 'file:///etc/passwd', ...sealed({ password: 'canary' }) },
      { ...ssh, address: 'host', ...sealed({ privateKey: 'canary' }) },
      { ...row, driver: 'local', keys: 'reported' } as const,
    ]) {
      const opening = () => openDriver(broken);
      expect(opening).toThrow(DriverError);
      expect(opening).not.toThrow(/canary/);
    }
  });

  test('calls private addresses only for the settings, or where they allow it', async () => {
    const credentials = sealed({ password: 'x' });
    const signal = AbortSignal.timeout(5_000);
    const address = 'http://127.0.0.1:9';
    const open = (origin: 'api' | 'env') => openDriver({ ...wgEasy, address, origin, ...credentials });
    expect(() => open('api')).toThrow('not on the list');
    await using env = open('env');
    await expect(env.list(signal)).rejects.toMatchObject({ code: 'unreachable' });
  });
});

function generateSshKey(): string {
  return ssh2.utils.generateKeyPairSync('ed25519').private;
}

function observedPool({ failing }: { readonly failing?: number } = {}) {
  const [opened, closed]: [string[], string[]] = [[], []];
  const pool = new DriverPool((server) => {
    const name = `${server.id} ${server.interface}`;
    opened.push(name);
    return {
      ...new FakeHost().driver(),
      [Symbol.asyncDispose]: async () => {
        closed.push(name);
        if (server.id === failing) throw new Error('cannot be closed');
      },
    };
  });
  return { pool, opened, closed };
}

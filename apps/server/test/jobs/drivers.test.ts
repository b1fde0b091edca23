import type { ServerRow } from '@vpn-api/db';
import { DriverError, FakeHost } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { DriverPool, openDriver } from '../../src/jobs/drivers.ts';

const row = { id: 1, driver: 'none', interface: 'wg0', public_key: null } as ServerRow;

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

  test('refuses kinds of hosts that it cannot drive', () => {
    expect(openDriver({ ...row, driver: 'local' }).kind).toBe('local');
    for (const driver of ['ssh', 'wg-easy'] as const) {
      expect(() => openDriver({ ...row, driver })).toThrow(DriverError);
    }
  });
});

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

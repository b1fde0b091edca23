import { findPeriod, insertPeriod, insertUser, type Store } from '@vpn-api/db';
import { engines, openTestStore } from '@vpn-api/db/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { runDoctorCommand } from '../../src/cli/doctor.ts';
import { runRecompute } from '../../src/cli/recompute.ts';

const at = '2026-11-22T12:00:00.000Z';
const end = '2026-12-22T12:00:00.000Z';

/** A period without payment, put there by nobody. */
async function period(store: Store, ends_at: string) {
  const user = await insertUser(store, { email: 'a@example.com', created_at: at });
  const row = { user_id: user.id, seq: 1, tariff_name: 'Month', price_minor: 0, currency: 'USD', device_limit: 1 };
  const span = { granted_at: at, length_seconds: 30 * 86_400, starts_at: at, ends_at, created_at: at };
  return store.transaction((tx) => insertPeriod(tx, { ...row, ...span, source: 'import' }));
}

describe.each(engines)('the commands on %s', (engine) => {
  afterEach(() => vi.restoreAllMocks());

  function printed(): () => string {
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    return () => write.mock.calls.map(([text]) => String(text)).join('');
  }

  test('doctor says that all is well and exits with 0, or prints the rows and exits with 1', async () => {
    await using store = await openTestStore(engine, { file: true });
    const output = printed();
    expect(await runDoctorCommand(store.url, [])).toBe(0);
    expect(output()).toBe('All invariants hold (I1 to I11).\n');
    const { id, user_id } = await period(store, at);
    expect(await runDoctorCommand(store.url, [])).toBe(1);
    expect(output()).toContain(`{"user_id":${user_id},"row":"subscription_periods:${id}","column":"ends_at"`);
    expect(await runDoctorCommand(store.url, ['--json'])).toBe(1);
  });

  test('recompute shows a difference, fixes it when told to, and then finds none', async () => {
    await using store = await openTestStore(engine, { file: true });
    const output = printed();
    const { id, user_id } = await period(store, at);
    expect(await runRecompute(store.url, ['--user', String(user_id)])).toBe(1);
    expect(output()).toContain(`subscription_periods:${id}.ends_at: stored "${at}", derived "${end}"\n`);
    expect(await runRecompute(store.url, ['--user', String(user_id), '--fix'])).toBe(0);
    expect(await findPeriod(store, id)).toMatchObject({ ends_at: end, grace_ends_at: end });
    expect(await runRecompute(store.url, ['--user', String(user_id)])).toBe(0);
  });

  test('recompute asks for a user that exists', async () => {
    await using store = await openTestStore(engine, { file: true });
    await expect(runRecompute(store.url, [])).rejects.toThrow('recompute --user ID');
    await expect(runRecompute(store.url, ['--user', '17'])).rejects.toThrow('There is no user 17.');
  });
});

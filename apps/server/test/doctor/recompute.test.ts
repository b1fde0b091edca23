import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { recomputeUser } from '../../src/ops/recompute-user.ts';
import { DAY, paid, refunded, useShop } from '../payment/shop.ts';

describe.each(engines)('recomputing a user on %s', (engine) => {
  const world = useShop(engine);

  async function customerWithHistory() {
    const { shop } = world;
    const first = await shop.order({ tariff: { grace_days: 3 } });
    const { user } = first;
    await shop.deliver(paid(first.payment));
    shop.clock.advance(5 * DAY);
    const second = await shop.order({ user });
    await shop.deliver(paid(second.payment));
    await shop.deliver(refunded(first.payment, { amount: '2.00' }));
    return { user, payment: second.payment, periods: await shop.periods(user) };
  }

  const recompute = (userId: number, fix = false) => recomputeUser(world.shop.store, { userId, fix });
  const set = async (table: 'payments' | 'subscription_periods', id: number, columns: object) => {
    await world.shop.store.kysely.updateTable(table).set(columns).where('id', '=', id).execute();
  };

  test('finds nothing where nothing was touched', async () => {
    const { user } = await customerWithHistory();
    expect(await recompute(user.id)).toEqual({ differences: [], remaining: [] });
  });

  test('shows derived columns that were changed, and writes those anew only when told to', async () => {
    const { user, periods } = await customerWithHistory();
    const last = periods.at(-1);
    await set('subscription_periods', last?.id ?? 0, { ends_at: '2030-01-01T00:00:00.000Z', grace_ends_at: null });
    const { differences } = await recompute(user.id);
    expect(differences).toMatchObject([
      { row: `subscription_periods:${last?.id}`, column: 'ends_at', derived: last?.ends_at },
      { column: 'grace_ends_at', stored: null, derived: last?.grace_ends_at },
    ]);
    expect((await world.shop.periods(user)).at(-1)?.ends_at).not.toBe(last?.ends_at);
    expect((await recompute(user.id, true)).remaining).toEqual([]);
    expect(await world.shop.periods(user)).toEqual(periods);
  });

  test.each([
    ['status', { status: 'pending', completed_at: null }, 'completed'],
    ['status', { status: 'partially_refunded' }, 'completed'],
    ['refunded_minor', { refunded_minor: 77 }, 0],
  ] as const)(
    'shows a payment whose %s is not what its events and refunds say, and never rewrites it',
    async (...row) => {
      const [column, harm, derived] = row;
      const { user, payment } = await customerWithHistory();
      await set('payments', payment.id, harm);
      const { differences, remaining } = await recompute(user.id, true);
      expect(differences).toContainEqual(expect.objectContaining({ row: `payments:${payment.id}`, column, derived }));
      expect(remaining).toEqual(differences);
    },
  );

  test('shows a grant that is missing', async () => {
    const { user, payment } = await customerWithHistory();
    await world.shop.store.kysely.deleteFrom('subscription_periods').where('payment_id', '=', payment.id).execute();
    expect((await recompute(user.id)).differences).toContainEqual({
      invariant: 'I2',
      row: `payments:${payment.id}`,
      column: 'periods',
      stored: 0,
      derived: 1,
    });
  });

  test('refuses a user who never was', async () => {
    await expect(recompute(2_000_000_000)).rejects.toThrow('user_not_found');
  });
});

import { describe, expect, test } from 'vitest';
import {
  countEvents,
  countPayments,
  countSubscribedUsers,
  countTariffs,
  deleteTariff,
  findEvent,
  findEventByDedupeKey,
  findLatestPayment,
  findOpenPayment,
  findPayment,
  findPaymentByCharge,
  findPaymentByReference,
  findPeriod,
  findPeriodByPayment,
  findRefund,
  findRefundByProviderId,
  findSettledCharge,
  findTariff,
  findTariffsByPrice,
  hasHadPeriod,
  insertEventOnce,
  insertRefund,
  insertTariff,
  isForeignKeyViolation,
  isTariffSold,
  isUniqueViolation,
  listChildPayments,
  listEvents,
  listMatchedParkedEvents,
  listNamedPayments,
  listPayments,
  listPeriodsForUser,
  listPeriodsForUsers,
  listRefunds,
  listSubscribedUsers,
  listTariffs,
  lockEvent,
  lockPayment,
  lockTariff,
  type NewPaymentEvent,
  replacePrices,
  type Store,
  updateEventOutcome,
  updateFold,
  updatePayment,
  updatePeriodFacts,
  updateRefund,
  updateTariffRow,
} from '../../src/index.ts';
import { engines, openTestStore } from '../../src/testing.ts';
import { addPayment, addPeriod, addTariff, addUser, at, DAY, unique } from '../fixtures.ts';

describe.each(engines)('tariffs on %s', (engine) => {
  test('keep the order of their prices and who may be paid with them', async () => {
    await using store = await openTestStore(engine);
    const prices = [
      { currency: 'USD', amount_minor: 999, providers: null },
      { currency: 'XTR', amount_minor: 500, providers: ['telegram_stars'] },
    ];
    const tariff = await store.transaction((tx) => insertTariff(tx, { name: 'Month', created_at: at(0) }, prices));
    expect(tariff.prices).toMatchObject(prices);
    expect(await findTariff(store, tariff.id)).toEqual(tariff);
    expect(await store.transaction((tx) => lockTariff(tx, tariff.id))).toEqual(tariff);
    expect(await findTariff(store, 999)).toBeUndefined();
  });

  test('a list brings the prices of each and hides archived ones', async () => {
    await using store = await openTestStore(engine);
    const [a, b] = [await addTariff(store), await addTariff(store)];
    await store.transaction((tx) => updateTariffRow(tx, b.id, { archived_at: at(1) }));
    expect(await listTariffs(store)).toEqual([a]);
    expect(await listTariffs(store, { includeArchived: true })).toEqual([a, { ...b, archived_at: at(1) }]);
    expect(await countTariffs(store)).toBe(1);
    expect(await countTariffs(store, { includeArchived: true })).toBe(2);
  });

  test('are found by an exact price in a currency', async () => {
    await using store = await openTestStore(engine);
    const tariff = await addTariff(store);
    expect(await findTariffsByPrice(store, 'USD', 999)).toEqual([tariff]);
    expect(await findTariffsByPrice(store, 'EUR', 999)).toEqual([]);
    expect(await findTariffsByPrice(store, 'USD', 998)).toEqual([]);
  });

  test('new prices replace the old ones', async () => {
    await using store = await openTestStore(engine);
    const tariff = await addTariff(store);
    const prices = [{ currency: 'EUR', amount_minor: 5, providers: ['stripe'] }];
    await store.transaction((tx) => replacePrices(tx, tariff.id, prices));
    expect((await findTariff(store, tariff.id))?.prices).toMatchObject(prices);
  });

  test('one that was sold, by a payment or a period, cannot be deleted; one that was not can, with its prices', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const [paid, granted, unsold] = [await addTariff(store), await addTariff(store), await addTariff(store)];
    await addPayment(store, user.id, { tariff_id: paid.id });
    await addPeriod(store, user.id, { tariff_id: granted.id });
    for (const sold of [paid, granted]) {
      expect(await isTariffSold(store, sold.id)).toBe(true);
      const removal = store.transaction((tx) => deleteTariff(tx, sold.id));
      expect(isForeignKeyViolation(await removal.catch((error: unknown) => error))).toBe(true);
    }
    expect(await isTariffSold(store, unsold.id)).toBe(false);
    await store.transaction((tx) => deleteTariff(tx, unsold.id));
    expect(await findTariff(store, unsold.id)).toBeUndefined();
  });
});

describe.each(engines)('payments on %s', (engine) => {
  test('are found by id, reference and charge', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const payment = await addPayment(store, user.id, { provider_payment_id: 'charge' });
    expect(await findPayment(store, payment.id)).toEqual(payment);
    expect(await findPaymentByReference(store, payment.reference)).toEqual(payment);
    expect(await findPaymentByCharge(store, 'standard', 'charge')).toEqual(payment);
    expect(await findPaymentByCharge(store, 'stripe', 'charge')).toBeUndefined();
    expect(await store.transaction((tx) => lockPayment(tx, payment.id))).toEqual(payment);
    expect(await findLatestPayment(store, user.id)).toEqual(payment);
  });

  test('every payment that one of several names means is found at once, and none by no name', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const add = (columns = {}) => addPayment(store, user.id, columns);
    const [byId, byReference, byCharge] = [await add(), await add(), await add({ provider_payment_id: 'charge' })];
    await add({ provider_payment_id: 'charge', provider: 'stripe' });
    const names = { id: byId.id, reference: byReference.reference, provider: 'standard', chargeId: 'charge' };
    expect((await listNamedPayments(store, names)).toSorted((a, b) => a.id - b.id)).toEqual([
      byId,
      byReference,
      byCharge,
    ]);
    expect(await listNamedPayments(store, { provider: 'standard', chargeId: 'charge' })).toEqual([byCharge]);
    expect(await listNamedPayments(store, { provider: 'standard' })).toEqual([]);
  });

  test('a charge belongs to one payment of its provider', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    await addPayment(store, user.id, { provider_payment_id: 'charge' });
    await addPayment(store, user.id, { provider_payment_id: 'charge', provider: 'stripe' });
    const twice = await addPayment(store, user.id, { provider_payment_id: 'charge' }).catch((error: unknown) => error);
    expect(isUniqueViolation(twice)).toBe('payments(provider, provider_payment_id)');
  });

  test('the open payment of the same thing is the newest pending one', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const tariff = await addTariff(store);
    const same = { userId: user.id, tariffId: tariff.id, provider: 'standard', currency: 'USD' };
    await addPayment(store, user.id, { tariff_id: tariff.id, status: 'failed' });
    expect(await findOpenPayment(store, same)).toBeUndefined();
    const open = await addPayment(store, user.id, { tariff_id: tariff.id });
    expect(await findOpenPayment(store, same)).toEqual(open);
    expect(await findOpenPayment(store, { ...same, amountMinor: 1 })).toBeUndefined();
    expect(await findOpenPayment(store, { ...same, currency: 'EUR' })).toBeUndefined();
  });

  test('a list is filtered by each column and counted alike', async () => {
    await using store = await openTestStore(engine);
    const [a, b] = [await addUser(store), await addUser(store)];
    const first = await addPayment(store, a.id);
    const second = await addPayment(store, b.id, { status: 'completed', provider: 'stripe', created_at: at(50) });
    expect(await listPayments(store, { userId: a.id })).toEqual([first]);
    expect(await listPayments(store, { status: 'completed', provider: 'stripe' })).toEqual([second]);
    expect(await listPayments(store, { since: at(50) })).toEqual([second]);
    expect(await listPayments(store, {}, { afterId: first.id })).toEqual([second]);
    expect(await countPayments(store, { since: at(1) })).toBe(1);
  });

  test('further charges hang below the payment they came for', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const parent = await addPayment(store, user.id);
    const child = await addPayment(store, user.id, { parent_id: parent.id, status: 'needs_review' });
    expect(await listChildPayments(store, parent.id)).toEqual([child]);
  });

  test('a change answers the row as it is then', async () => {
    await using store = await openTestStore(engine);
    const payment = await addPayment(store, (await addUser(store)).id);
    const patch = { status: 'completed', completed_at: at(9), provider_payment_id: 'c', updated_at: at(9) } as const;
    expect(await store.transaction((tx) => updatePayment(tx, payment.id, patch))).toEqual({ ...payment, ...patch });
  });
});

describe.each(engines)('payment events on %s', (engine) => {
  test('a delivery is stored once, however many arrive at once', async () => {
    await using store = await openTestStore(engine);
    const deliver = () => store.transaction((tx) => insertEventOnce(tx, event({ dedupe_key: 'evt_1' })));
    const stored = (await Promise.all(Array.from({ length: 8 }, deliver))).filter((row) => row !== undefined);
    expect(stored).toHaveLength(1);
    expect(await findEventByDedupeKey(store, 'standard', 'evt_1')).toEqual(stored[0]);
    expect(await countEvents(store)).toBe(1);
  });

  test('parked ones are listed once their payment exists, by reference or by charge of the same provider', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const byReference = await add(store, { reference: 'r' });
    const byCharge = await add(store, { provider_payment_id: 'c' });
    await add(store, { reference: 'r', outcome: 'settled' });
    await add(store, { provider_payment_id: 'c', provider: 'stripe' });
    await add(store, { reference: 'unknown' });
    expect(await listMatchedParkedEvents(store)).toEqual([]);
    await addPayment(store, user.id, { reference: 'r' });
    await addPayment(store, user.id, { provider_payment_id: 'c' });
    expect(await listMatchedParkedEvents(store)).toEqual([byReference, byCharge]);
    expect(await listMatchedParkedEvents(store, { limit: 1, afterId: byReference.id })).toEqual([byCharge]);
  });

  test('the outcome is recorded on the locked row', async () => {
    await using store = await openTestStore(engine);
    const { id } = await add(store, {});
    const outcome = { outcome: 'held', reason: 'charge_missing', payment_id: null, processed_at: at(3) } as const;
    await store.transaction(async (tx) => {
      expect(await lockEvent(tx, id)).toMatchObject({ outcome: 'parked' });
      await updateEventOutcome(tx, id, outcome);
    });
    expect(await findEvent(store, id)).toMatchObject(outcome);
    expect(await listEvents(store, { outcome: 'held', provider: 'standard' })).toHaveLength(1);
    expect(await listEvents(store, { outcome: 'parked' })).toEqual([]);
  });

  test('a charge is known from the delivery that settled it', async () => {
    await using store = await openTestStore(engine);
    await add(store, { action: 'failed', provider_payment_id: 'c', outcome: 'settled' });
    await add(store, { action: 'completed', provider_payment_id: 'c', outcome: 'held' });
    const paid = await add(store, { action: 'completed', provider_payment_id: 'c', outcome: 'settled' });
    await add(store, { action: 'completed', provider_payment_id: 'c' });
    expect(await findSettledCharge(store, 'standard', 'c')).toEqual(paid);
    expect(await findSettledCharge(store, 'stripe', 'c')).toBeUndefined();
  });
});

describe.each(engines)('refunds on %s', (engine) => {
  test('are recorded once per provider id, and found with what became of them', async () => {
    await using store = await openTestStore(engine);
    const payment = await addPayment(store, (await addUser(store)).id);
    const row = { payment_id: payment.id, provider: 'standard', source: 'webhook', created_at: at(0) } as const;
    const first = await insertRefund(store, {
      ...row,
      provider_refund_id: 'r1',
      amount_minor: 400,
      status: 'succeeded',
    });
    const second = await insertRefund(store, { ...row, amount_minor: 500, status: 'pending' });
    await store.transaction((tx) => updateRefund(tx, second.id, { status: 'failed' }));
    expect(await findRefundByProviderId(store, 'standard', 'r1')).toEqual(first);
    expect(await findRefund(store, second.id)).toMatchObject({ status: 'failed' });
    expect(await listRefunds(store, payment.id)).toHaveLength(2);
    const twice = insertRefund(store, { ...row, provider_refund_id: 'r1', amount_minor: 1, status: 'succeeded' });
    expect(isUniqueViolation(await twice.catch((error: unknown) => error))).toBe(
      'refunds(provider, provider_refund_id)',
    );
  });
});

describe.each(engines)('subscription periods on %s', (engine) => {
  test('one payment grants one period', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const payment = await addPayment(store, user.id);
    const period = await addPeriod(store, user.id, { payment_id: payment.id, source: 'payment' });
    expect(await findPeriodByPayment(store, payment.id)).toEqual(period);
    const second = addPeriod(store, user.id, { payment_id: payment.id, seq: 2 });
    expect(isUniqueViolation(await second.catch((error: unknown) => error))).toBe('subscription_periods(payment_id)');
  });

  test('chains come in order, for one user or many', async () => {
    await using store = await openTestStore(engine);
    const [a, b] = [await addUser(store), await addUser(store)];
    await addPeriod(store, a.id, { seq: 2 });
    await addPeriod(store, b.id, { seq: 1, source: 'trial' });
    await addPeriod(store, a.id, { seq: 1 });
    expect((await listPeriodsForUser(store, a.id)).map((row) => row.seq)).toEqual([1, 2]);
    const both = await listPeriodsForUsers(store, [b.id, a.id]);
    expect(both.map((row) => [row.user_id, row.seq])).toEqual([
      [a.id, 1],
      [a.id, 2],
      [b.id, 1],
    ]);
    expect(await listPeriodsForUsers(store, [])).toEqual([]);
    expect([await hasHadPeriod(store, a.id), await hasHadPeriod(store, b.id + 1)]).toEqual([true, false]);
  });

  test('the end of grace follows the end, the revocation and the last moment there is', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const graceEnd = async (period: Parameters<typeof addPeriod>[2]) =>
      (await addPeriod(store, user.id, { grace_days: 3, ...period })).grace_ends_at;
    expect(await graceEnd({ seq: 1, ends_at: at(0) })).toBe(at(3 * DAY));
    expect(await graceEnd({ seq: 2, ends_at: null })).toBeNull();
    expect(await graceEnd({ seq: 3, ends_at: at(0), revoked_at: at(0) })).toBe(at(0));
    expect(await graceEnd({ seq: 4, ends_at: '9999-12-31T23:59:59.999Z' })).toBe('9999-12-31T23:59:59.999Z');
  });

  test('a cut and the fold that follows rewrite facts and derived columns of the rows given', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const [first, second] = [
      await addPeriod(store, user.id, { seq: 1, grace_days: 1 }),
      await addPeriod(store, user.id, { seq: 2, starts_at: at(30 * DAY), ends_at: at(60 * DAY), grace_days: 1 }),
    ];
    await store.transaction(async (tx) => {
      await updatePeriodFacts(tx, first.id, { cut_seconds: 20 * DAY, revoked_at: at(10 * DAY) });
      await updateFold(tx, [
        { ...first, revoked_at: at(10 * DAY), ends_at: at(10 * DAY) },
        { ...second, starts_at: at(10 * DAY), ends_at: at(40 * DAY) },
      ]);
    });
    expect(await findPeriod(store, first.id)).toEqual({
      ...first,
      cut_seconds: 20 * DAY,
      revoked_at: at(10 * DAY),
      ends_at: at(10 * DAY),
      grace_ends_at: at(10 * DAY),
    });
    expect(await findPeriod(store, second.id)).toMatchObject({
      starts_at: at(10 * DAY),
      ends_at: at(40 * DAY),
      grace_ends_at: at(41 * DAY),
    });
  });

  test('a fold of a lifetime writes an end that is none', async () => {
    await using store = await openTestStore(engine);
    const period = await addPeriod(store, (await addUser(store)).id);
    await store.transaction((tx) => updateFold(tx, [{ ...period, ends_at: null }]));
    expect(await findPeriod(store, period.id)).toMatchObject({ ends_at: null, grace_ends_at: null });
  });

  test('revoking a period that moves nothing ends its grace', async () => {
    await using store = await openTestStore(engine);
    const period = await addPeriod(store, (await addUser(store)).id, { grace_days: 5 });
    await store.transaction((tx) => updatePeriodFacts(tx, period.id, { cut_seconds: 0, revoked_at: at(40 * DAY) }));
    expect(await findPeriod(store, period.id)).toMatchObject({ grace_ends_at: period.ends_at });
  });

  test('subscribers are listed once each by the state of the end of their chain', async () => {
    await using store = await openTestStore(engine);
    const now = at(100 * DAY);
    const chain = async (...periods: Parameters<typeof addPeriod>[2][]) => {
      const { id } = await addUser(store);
      for (const [index, period] of periods.entries()) await addPeriod(store, id, { seq: index + 1, ...period });
      return id;
    };
    const expired = await chain({});
    const active = await chain({}, { starts_at: at(90 * DAY), ends_at: at(120 * DAY) });
    const lifetime = await chain({ ends_at: null });
    const grace = await chain({ ends_at: at(99 * DAY), grace_days: 3 });
    const revoked = await chain({ revoked_at: at(5 * DAY), ends_at: at(5 * DAY) });
    const neverUsed = await chain({ revoked_at: at(0), ends_at: at(0) });
    const revokedOnTop = await chain(
      { ends_at: at(120 * DAY) },
      { starts_at: at(120 * DAY), ends_at: at(120 * DAY), revoked_at: at(1) },
    );
    await addUser(store);
    expect(await listSubscribedUsers(store, { now })).toEqual([
      expired,
      active,
      lifetime,
      grace,
      revoked,
      neverUsed,
      revokedOnTop,
    ]);
    const withStatus = (status: 'active' | 'grace' | 'expired' | 'revoked') =>
      listSubscribedUsers(store, { now, status });
    expect(await withStatus('active')).toEqual([active, lifetime, revokedOnTop]);
    expect(await withStatus('grace')).toEqual([grace]);
    expect(await withStatus('expired')).toEqual([expired]);
    expect(await withStatus('revoked')).toEqual([revoked, neverUsed]);
    expect(await listSubscribedUsers(store, { now, endsBefore: at(100 * DAY), status: 'grace' })).toEqual([grace]);
    expect(await listSubscribedUsers(store, { now, userId: active })).toEqual([active]);
    expect(await listSubscribedUsers(store, { now }, { afterId: lifetime, skip: 1, limit: 1 })).toEqual([revoked]);
    expect(await countSubscribedUsers(store, { now, status: 'active' })).toBe(3);
  });

  test('more rows than one statement may carry are read and written', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const period = await addPeriod(store, user.id);
    const ids = Array.from({ length: 1_200 }, (_, index) => index + 1);
    expect(await listPeriodsForUsers(store, ids)).toEqual([period]);
    const rows = ids.map((id) => ({ ...period, id, ends_at: at(id) }));
    await store.transaction((tx) => updateFold(tx, rows));
    expect(await findPeriod(store, period.id)).toMatchObject({ ends_at: at(period.id) });
  });
});

function event(columns: Partial<NewPaymentEvent>): NewPaymentEvent {
  return {
    provider: 'standard',
    dedupe_key: unique('evt'),
    type: 'payment.completed',
    raw: '{}',
    outcome: 'parked',
    received_at: at(0),
    ...columns,
  };
}

async function add(store: Store, columns: Partial<NewPaymentEvent>) {
  const row = await insertEventOnce(store, event(columns));
  if (row === undefined) throw new Error('stored before');
  return row;
}

import { randomUUID } from 'node:crypto';
import {
  countEvents,
  countPayments,
  listChildPayments,
  listEvents,
  listRefunds,
  type PaymentEventRow,
  updateUser,
} from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { chargeOf, customer, DAY, failed, OTHER_SECRET, paid, refunded, useShop } from './shop.ts';

function count<T>(values: readonly T[], wanted: T): number {
  return values.filter((value) => value === wanted).length;
}

describe.each(engines)('a payment webhook on %s', (engine) => {
  const world = useShop(engine);

  async function eventOf(id: string): Promise<PaymentEventRow | undefined> {
    return (await listEvents(world.shop.store, {}, { limit: 10_000 })).find((row) => row.dedupe_key === id);
  }

  describe('that says paid', () => {
    test('grants the period that was sold and wakes the reconciler', async () => {
      const { shop } = world;
      const { user, payment, tariff } = await shop.order({ tariff: { device_limit: 3, grace_days: 2 } });
      const before = shop.woken.reconciler;
      expect(await shop.deliver(paid(payment))).toBe('settled');
      expect(shop.woken.reconciler).toBe(before + 1);
      const now = shop.clock.now();
      expect(await shop.payment(payment.id)).toMatchObject({
        status: 'completed',
        completed_at: now,
        provider_payment_id: chargeOf(payment),
      });
      expect(await shop.periods(user)).toMatchObject([
        {
          seq: 1,
          source: 'payment',
          payment_id: payment.id,
          tariff_id: tariff.id,
          price_minor: 999,
          device_limit: 3,
          grace_days: 2,
          starts_at: now,
          ends_at: addSeconds(now, 30 * DAY),
        },
      ]);
    });

    test('is settled once by 200 deliveries at once, all answered', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const id = `msg_${randomUUID()}`;
      const results = await Promise.all(Array.from({ length: 200 }, () => shop.deliver(paid(payment), { id })));
      expect(count(results, 'settled')).toBe(1);
      expect(count(results, 'duplicate')).toBe(199);
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test.each([
      ['one id', () => 'msg_one'],
      ['different ids', () => `msg_${randomUUID()}`],
    ])('is settled once by 40 deliveries at once under %s, each to another process', async (_, idOf) => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const deliver = () => shop.deliver(paid(payment), { id: idOf(), services: shop.anotherProcess() });
      const results = await Promise.all(Array.from({ length: 40 }, deliver));
      expect([count(results, 'settled'), count(results, 'duplicate')]).toEqual([1, 39]);
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test('is settled once by 40 deliveries at once under different ids', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const results = await Promise.all(Array.from({ length: 40 }, () => shop.deliver(paid(payment))));
      expect(count(results, 'settled')).toBe(1);
      expect(count(results, 'duplicate')).toBe(39);
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test('D37: 40 different payments of one user settled at once grant every day that was paid', async () => {
      const { shop } = world;
      const user = await shop.person();
      const orders = [];
      const order = { user, tariff: { duration_days: 10 }, payment: { apply: 'extend' } };
      for (let made = 0; made < 40; made += 1) orders.push(await shop.order(order));
      const results = await Promise.all(orders.map(({ payment }) => shop.deliver(paid(payment))));
      expect(count(results, 'settled')).toBe(40);
      const periods = await shop.periods(user);
      expect(periods.map(({ seq }) => seq)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
      expect(periods.at(-1)?.ends_at).toBe(addSeconds(shop.clock.now(), 400 * DAY));
    });

    test('is a duplicate when the same charge comes under another id', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      expect(await shop.deliver(paid(payment))).toBe('duplicate');
      expect(await shop.deliver(paid(payment, { reference: undefined, payment_id: undefined }))).toBe('duplicate');
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test('makes a child payment in review of a second charge, never a duplicate', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const second = paid(payment, { provider_payment_id: `second-${payment.reference}`, amount: '5.00' });
      expect(await shop.deliver(second)).toBe('settled');
      expect(await shop.deliver(second)).toBe('duplicate');
      const [child, ...others] = await listChildPayments(shop.store, payment.id);
      expect(others).toEqual([]);
      expect(child).toMatchObject({
        status: 'needs_review',
        review_reason: 'extra_charge',
        amount_minor: 500,
        user_id: user.id,
        provider_payment_id: `second-${payment.reference}`,
      });
      expect(await shop.periods(user)).toHaveLength(1);
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'completed' });
    });

    test('makes one child of a second charge that is delivered many times at once', async () => {
      const { shop } = world;
      const { payment } = await shop.order();
      const charges = ['a', 'b'].map((name) => paid(payment, { provider_payment_id: `${name}-${payment.reference}` }));
      const deliveries = Array.from({ length: 20 }, (_, index) => shop.deliver(charges[index % 2] ?? ''));
      const results = await Promise.all(deliveries);
      expect(count(results, 'settled')).toBe(2);
      expect(count(results, 'duplicate')).toBe(18);
      expect(await listChildPayments(shop.store, payment.id)).toHaveLength(1);
    });

    test.each([
      ['less', { amount: '9.98' }, 'amount_mismatch'],
      ['more', { amount: '10.00' }, 'amount_mismatch'],
      ['another currency', { currency: 'EUR' }, 'currency_mismatch'],
      ['a currency that nobody knows', { currency: 'XYZ' }, 'currency_mismatch'],
    ])('waits for a person when it brings %s than was asked', async (_, data, review_reason) => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      expect(await shop.deliver(paid(payment, data))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({
        status: 'needs_review',
        review_reason,
        provider_payment_id: chargeOf(payment),
      });
      expect(await shop.periods(user)).toEqual([]);
      expect(await shop.deliver(paid(payment, data))).toBe('duplicate');
    });

    test('is settled also after the provider had given up on the payment', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      expect(await shop.deliver(failed(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'failed' });
      expect(await shop.deliver(paid(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'completed' });
      expect(await shop.periods(user)).toHaveLength(1);
      expect(await shop.deliver(failed(payment))).toBe('ignored');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'completed' });
    });

    test('is settled a year later too: money does not expire', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      shop.clock.advance(365 * DAY);
      expect(await shop.deliver(paid(payment))).toBe('settled');
      expect(await shop.periods(user)).toMatchObject([{ starts_at: shop.clock.now() }]);
    });

    test('waits for a person when its user was removed', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await updateUser(shop.store, user.id, { removed_at: shop.clock.now(), email: null });
      expect(await shop.deliver(paid(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'needs_review', review_reason: 'user_removed' });
      expect(await shop.periods(user)).toEqual([]);
    });

    test('waits for a person when the user has a lifetime already', async () => {
      const { shop } = world;
      const user = await shop.person();
      const [first, second] = [
        await shop.order({ user, tariff: { duration_days: null } }),
        await shop.order({ user, tariff: { duration_days: null } }),
      ];
      await shop.deliver(paid(first.payment));
      expect(await shop.deliver(paid(second.payment))).toBe('settled');
      expect(await shop.payment(second.payment.id)).toMatchObject({ review_reason: 'already_lifetime' });
      expect(await shop.periods(user)).toMatchObject([{ length_seconds: null, ends_at: null }]);
    });
  });

  describe('is held, and changes nothing,', () => {
    test.each([
      ['without a charge id', { provider_payment_id: undefined }, 'charge_missing'],
      ['without an amount', { amount: undefined }, 'amount_missing'],
      ['with a payment id of another payment', { payment_id: 1_999_999_999 }, 'identifiers_disagree'],
    ])('%s', async (_, data, reason) => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const id = `msg_${randomUUID()}`;
      expect(await shop.deliver(paid(payment, data), { id })).toBe('held');
      expect(await eventOf(id)).toMatchObject({ outcome: 'held', reason });
      expect(await shop.admin.payment.get({ payment_id: payment.id })).toEqual(payment);
      expect(await shop.periods(user)).toEqual([]);
    });

    test('when its charge and its reference name payments of two users', async () => {
      const { shop } = world;
      const [mine, yours] = [await shop.order(), await shop.order()];
      await shop.deliver(paid(mine.payment));
      const crossed = paid(yours.payment, { provider_payment_id: chargeOf(mine.payment) });
      expect(await shop.deliver(crossed)).toBe('held');
      expect(await shop.deliver(paid(yours.payment, { payment_id: mine.payment.id }))).toBe('held');
      expect(await shop.admin.payment.get({ payment_id: yours.payment.id })).toEqual(yours.payment);
      expect(await shop.periods(yours.user)).toEqual([]);
    });

    test('when two users claim one charge at once: one is paid, the other is not', async () => {
      const { shop } = world;
      for (let round = 0; round < 5; round += 1) {
        const [a, b] = [await shop.order(), await shop.order()];
        const provider_payment_id = `shared-${a.payment.reference}`;
        const results = await Promise.all(
          [a, b].map(({ payment }) => shop.deliver(paid(payment, { provider_payment_id }))),
        );
        expect(results.toSorted()).toEqual(['held', 'settled']);
        const periods = [...(await shop.periods(a.user)), ...(await shop.periods(b.user))];
        expect(periods).toHaveLength(1);
      }
    });

    test('when it comes from another sender than the provider of the payment', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const sending = { provider: 'shop2', secret: OTHER_SECRET };
      expect(await shop.deliver(paid(payment), sending)).toBe('held');
      expect(await shop.deliver(failed(payment), sending)).toBe('held');
      expect(await shop.admin.payment.get({ payment_id: payment.id })).toEqual(payment);
      expect(await shop.periods(user)).toEqual([]);
    });

    test('when it contradicts the charge that the payment was made for', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order({ payment: { provider_payment_id: randomUUID() } });
      expect(await shop.deliver(paid(payment))).toBe('held');
      expect(await shop.periods(user)).toEqual([]);
      const right = paid(payment, { provider_payment_id: payment.provider_payment_id });
      expect(await shop.deliver(right)).toBe('settled');
    });

    test('when its body is authentic but makes no sense, whatever bytes it has', async () => {
      const { shop } = world;
      for (const body of ['nonsense', '\0', '"\ufffd"', '[]', '{"type":"payment.completed"}']) {
        expect(await shop.deliver(body)).toBe('held');
      }
    });
  });

  describe('is refused, and nothing is stored,', () => {
    test.each([
      ['with the secret of another sender', { secret: OTHER_SECRET }, 'invalid_signature'],
      ['at the address of another sender', { provider: 'shop2' }, 'invalid_signature'],
      ['at an unknown address', { provider: 'nobody' }, 'provider_not_found'],
      ['at a provider without webhooks', { provider: 'manual' }, 'provider_not_found'],
      ['at a name of the object prototype', { provider: 'constructor' }, 'provider_not_found'],
    ])('%s', async (_, sending, code) => {
      const { shop } = world;
      const { payment } = await shop.order();
      const before = await countEvents(shop.store);
      await expect(shop.deliver(paid(payment), sending)).rejects.toThrow(code);
      expect(await countEvents(shop.store)).toBe(before);
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'pending' });
    });

    test('D36: without a signature, whoever the body names', async () => {
      const { shop } = world;
      const { payment, user } = await shop.order();
      const raw_body = JSON.stringify({ ...paid(payment), user_id: user.id, provider: 'apple', receipt: 'x' });
      const call = shop.as(customer(user)).payment.webhook({ provider: 'standard', headers: {}, raw_body });
      await expect(call).rejects.toThrow('invalid_signature');
      expect(await shop.periods(user)).toEqual([]);
    });

    test('when it is 301 s old', async () => {
      const { shop } = world;
      const { payment } = await shop.order();
      const raw_body = JSON.stringify(paid(payment));
      const headers = shop.sign(raw_body);
      shop.clock.advance(301);
      await expect(shop.as({ kind: 'public' }).payment.webhook({ headers, raw_body })).rejects.toThrow(
        'invalid_signature',
      );
    });
  });

  describe('for a payment that is not known', () => {
    test('is parked, and settled once a payment with its charge id is made', async () => {
      const { shop } = world;
      const [user, tariff, charge, id] = [
        await shop.person(),
        await shop.tariff(),
        randomUUID(),
        `msg_${randomUUID()}`,
      ];
      const data = { provider_payment_id: charge, amount: '9.99', currency: 'USD' };
      expect(await shop.deliver({ type: 'payment.completed', data }, { id })).toBe('parked');
      expect(await shop.settleParked()).toBe(0);
      const woken = shop.woken.parkedEvents;
      const { payment } = await shop.order({
        user,
        tariff: { name: randomUUID() },
        payment: { provider_payment_id: charge },
      });
      expect(shop.woken.parkedEvents).toBe(woken + 1);
      expect(await shop.settleParked()).toBe(1);
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'completed' });
      expect(await shop.periods(user)).toHaveLength(1);
      expect(await eventOf(id)).toMatchObject({ outcome: 'settled', payment_id: payment.id });
      expect(await shop.settleParked()).toBe(0);
      expect(tariff.archived).toBe(false);
    });

    test('is settled once when several processes try the parking place at once', async () => {
      const { shop } = world;
      const charge = randomUUID();
      const data = { provider_payment_id: charge, amount: '9.99', currency: 'USD' };
      await shop.deliver({ type: 'payment.completed', data });
      const { user } = await shop.order({ payment: { provider_payment_id: charge } });
      const settled = await Promise.all(Array.from({ length: 5 }, () => shop.settleParked()));
      expect(settled.reduce((sum, number) => sum + number)).toBe(1);
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test('asks for another try: the payment may have been committed while the event was', async () => {
      const { shop } = world;
      const woken = shop.woken.parkedEvents;
      await shop.deliver({ type: 'payment.completed', data: { provider_payment_id: randomUUID() } });
      expect(shop.woken.parkedEvents).toBe(woken + 1);
    });

    test('never finds one by a bare payment id', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      expect(await shop.deliver(paid(payment, { reference: undefined }))).toBe('parked');
      await shop.settleParked();
      expect(await shop.admin.payment.get({ payment_id: payment.id })).toEqual(payment);
      expect(await shop.periods(user)).toEqual([]);
    });

    test('never settles a payment of another provider with the same charge id', async () => {
      const { shop } = world;
      const charge = randomUUID();
      const data = { provider_payment_id: charge, amount: '9.99', currency: 'USD' };
      const sending = { provider: 'shop2', secret: OTHER_SECRET };
      expect(await shop.deliver({ type: 'payment.completed', data }, sending)).toBe('parked');
      const { payment } = await shop.order({ payment: { provider_payment_id: charge } });
      expect(await shop.settleParked()).toBe(0);
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'pending' });
    });
  });

  describe('that says refunded', () => {
    test('in full takes back what is left, and not the time already used', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const grantedAt = shop.clock.now();
      shop.clock.advance(10 * DAY);
      expect(await shop.deliver(refunded(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'refunded', refunded_minor: 999 });
      expect(await shop.periods(user)).toMatchObject([
        { starts_at: grantedAt, ends_at: shop.clock.now(), cut_seconds: 20 * DAY, revoked_at: shop.clock.now() },
      ]);
    });

    test('in part cuts that part, and adds up with the next one', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order({ tariff: { price: '10.00' } });
      await shop.deliver(paid(payment));
      expect(await shop.deliver(refunded(payment, { amount: '2.50' }))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'partially_refunded', refunded_minor: 250 });
      expect(await shop.periods(user)).toMatchObject([{ cut_seconds: 7.5 * DAY, revoked_at: null }]);
      expect(await shop.deliver(refunded(payment, { amount: '7.50' }))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'refunded', refunded_minor: 1000 });
      expect(await listRefunds(shop.store, payment.id)).toHaveLength(2);
    });

    test('moves the periods behind it forward', async () => {
      const { shop } = world;
      const user = await shop.person();
      const first = await shop.order({ user });
      const second = await shop.order({ user, payment: { apply: 'extend' } });
      await shop.deliver(paid(first.payment));
      await shop.deliver(paid(second.payment));
      await shop.deliver(refunded(first.payment));
      const now = shop.clock.now();
      expect(await shop.periods(user)).toMatchObject([
        { ends_at: now },
        { starts_at: now, ends_at: addSeconds(now, 30 * DAY) },
      ]);
    });

    test('twice is a duplicate by its refund id, also when both come at once', async () => {
      const { shop } = world;
      const { payment } = await shop.order();
      await shop.deliver(paid(payment));
      const refund = refunded(payment, { amount: '1.00' });
      const results = await Promise.all(Array.from({ length: 10 }, () => shop.deliver(refund)));
      expect(count(results, 'settled')).toBe(1);
      expect(count(results, 'duplicate')).toBe(9);
      expect(await shop.payment(payment.id)).toMatchObject({ refunded_minor: 100 });
    });

    test('beyond what was paid is held', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      await shop.deliver(refunded(payment, { amount: '9.00' }));
      const before = await shop.periods(user);
      expect(await shop.deliver(refunded(payment, { amount: '1.00' }))).toBe('held');
      expect(await shop.deliver(refunded(payment, { currency: 'EUR', amount: '0.10' }))).toBe('held');
      expect(await shop.deliver(refunded(payment, { amount: '0.10', refund_id: undefined }))).toBe('held');
      expect(await shop.payment(payment.id)).toMatchObject({ refunded_minor: 900 });
      expect(await shop.periods(user)).toEqual(before);
    });

    test('in full before the payment came means that nothing is granted later', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      expect(await shop.deliver(refunded(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'refunded' });
      expect(await shop.deliver(paid(payment))).toBe('ignored');
      expect(await shop.payment(payment.id)).toMatchObject({ provider_payment_id: chargeOf(payment) });
      expect(await shop.periods(user)).toEqual([]);
    });

    test('in part before the payment came waits for it', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order({ tariff: { price: '10.00' } });
      expect(await shop.deliver(refunded(payment, { amount: '5.00' }))).toBe('parked');
      expect(await shop.deliver(paid(payment))).toBe('settled');
      expect(await shop.settleParked()).toBe(1);
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'partially_refunded', refunded_minor: 500 });
      expect(await shop.periods(user)).toMatchObject([{ cut_seconds: 15 * DAY }]);
    });

    test('after the period is over rewrites nothing', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const [before] = await shop.periods(user);
      shop.clock.advance(31 * DAY);
      expect(await shop.deliver(refunded(payment))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'refunded' });
      expect(await shop.periods(user)).toMatchObject([{ cut_seconds: 0, ends_at: before?.ends_at }]);
    });

    test('ends a lifetime when full, and only marks it when partial', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order({ tariff: { duration_days: null } });
      await shop.deliver(paid(payment));
      await shop.deliver(refunded(payment, { amount: '1.00' }));
      expect(await shop.payment(payment.id)).toMatchObject({ review_reason: 'lifetime_partial_refund' });
      expect(await shop.periods(user)).toMatchObject([{ ends_at: null }]);
      await shop.deliver(refunded(payment, { amount: '8.99' }));
      expect(await shop.periods(user)).toMatchObject([{ ends_at: shop.clock.now() }]);
    });

    test('of money in review that was more than asked is measured by what came', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment, { amount: '20.00' }));
      await shop.admin.payment.resolve({ payment_id: payment.id, action: 'accept' });
      expect(await shop.deliver(refunded(payment, { amount: '10.00' }))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'partially_refunded', refunded_minor: 1000 });
      expect(await shop.periods(user)).toMatchObject([{ cut_seconds: 15 * DAY }]);
    });
  });

  test('of a type that is not ours is answered and ignored', async () => {
    const { shop } = world;
    const id = `msg_${randomUUID()}`;
    expect(await shop.deliver({ type: 'payment.disputed', data: {} }, { id })).toBe('ignored');
    expect(await eventOf(id)).toMatchObject({ outcome: 'ignored', reason: 'type_unknown', action: null });
  });

  test('keeps the raw body and the identifiers in the inbox', async () => {
    const { shop } = world;
    const { payment } = await shop.order();
    const [event, id] = [paid(payment), `msg_${randomUUID()}`];
    await shop.deliver(event, { id });
    expect(await eventOf(id)).toMatchObject({
      type: 'payment.completed',
      action: 'completed',
      raw: JSON.stringify(event),
      reference: payment.reference,
      claimed_payment_id: payment.id,
      provider_payment_id: chargeOf(payment),
      amount_minor: 999,
      currency: 'USD',
      payment_id: payment.id,
      processed_at: shop.clock.now(),
    });
  });

  test('never makes a payment of its own but for a further charge', async () => {
    const { shop } = world;
    const before = await countPayments(shop.store);
    await shop.deliver({ type: 'payment.completed', data: { provider_payment_id: randomUUID(), user_id: 1 } });
    expect(await countPayments(shop.store)).toBe(before);
  });
});

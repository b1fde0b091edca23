import { randomUUID } from 'node:crypto';
import { listAudit, listEvents } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { chargeOf, customer, DAY, OTHER_SECRET, paid, refunded, service, useShop } from './shop.ts';

describe.each(engines)('payments on %s', (engine) => {
  const world = useShop(engine);

  describe('are seen', () => {
    test('by their owner, services and admins; for others they do not exist', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const other = shop.as(customer(await shop.person()));
      const payment_id = payment.id;
      for (const calls of [shop.admin, shop.as(service), shop.as(customer(user))]) {
        expect(await calls.payment.get({ payment_id })).toEqual(payment);
        expect(await calls.payment.status({ payment_id })).toEqual({ ...payment, subscription: null, peers: [] });
      }
      await expect(other.payment.get({ payment_id })).rejects.toThrow('payment_not_found');
      await expect(other.payment.status({ payment_id })).rejects.toThrow('payment_not_found');
      await expect(shop.admin.payment.get({ payment_id: 2_000_000_000 })).rejects.toThrow('payment_not_found');
    });

    test('with what they bought once they are paid', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const status = await shop.as(customer(user)).payment.status({ payment_id: payment.id });
      expect(status).toMatchObject({
        status: 'completed',
        provider_payment_id: chargeOf(payment),
        peers: [],
        subscription: {
          user_id: user.id,
          status: 'active',
          days_remaining: 30,
          periods: [{ payment_id: payment.id, source: 'payment' }],
        },
      });
    });

    test('in a list of their own by a user, and of everybody by an operator, by every filter', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      shop.clock.advance(1);
      const other = await shop.order({ user, payment: { provider: 'shop2' } });
      await shop.deliver(paid(payment));
      const mine = shop.as(customer(user)).payment;
      const ids = (payments: readonly { id: number }[]) => payments.map(({ id }) => id);
      expect(ids(await mine.list({}))).toEqual([payment.id, other.payment.id]);
      expect(ids(await mine.list({ user_id: user.id, status: 'completed' }))).toEqual([payment.id]);
      expect(ids(await mine.list({ provider: 'shop2' }))).toEqual([other.payment.id]);
      expect(ids(await mine.list({ since: shop.clock.now() }))).toEqual([other.payment.id]);
      expect(ids(await mine.list({ skip: 1, limit: 1 }))).toEqual([other.payment.id]);
      await expect(mine.list({ user_id: (await shop.person()).id })).rejects.toThrow('not_allowed');
      await expect(mine.list({ limit: -1 })).rejects.toThrow('validation_failed');
      const responseHeaders = new Map<string, string>();
      const bot = shop.as(service, { responseHeaders }).payment;
      expect(ids(await bot.list({ user_id: user.id, with_total: true }))).toHaveLength(2);
      expect(responseHeaders.get('x-total-count')).toBe('2');
      expect(ids(await bot.list({ after_id: payment.id }))).toContain(other.payment.id);
    });
  });

  test('D33: nobody edits or deletes a payment, not even an admin', async () => {
    const { shop } = world;
    const { user, payment } = await shop.order();
    await shop.deliver(paid(payment));
    const before = await shop.payment(payment.id);
    const input = { payment_id: payment.id };
    for (const calls of [shop.as(customer(user)), shop.as(service), shop.admin, shop.as({ kind: 'public' })]) {
      await expect(calls.payment.update(input)).rejects.toThrow('not_allowed');
      await expect(calls.payment.remove(input)).rejects.toThrow('not_allowed');
    }
    expect(await shop.payment(payment.id)).toEqual(before);
  });

  test('the ways to pay are listed for everybody', async () => {
    const providers = await world.shop.as({ kind: 'public' }).payment.providers({});
    expect(providers.map(({ name, checkout }) => [name, checkout])).toEqual([
      ['standard', 'external'],
      ['shop2', 'external'],
      ['manual', 'manual'],
    ]);
    expect(providers[0]?.currencies).toEqual(expect.arrayContaining(['USD', 'XTR', 'USDT']));
  });

  describe('in review', () => {
    async function inReview() {
      const order = await world.shop.order();
      await world.shop.deliver(paid(order.payment, { amount: '5.00' }));
      return { ...order, payment_id: order.payment.id };
    }

    test('grant what was sold when an admin accepts them', async () => {
      const { shop } = world;
      const { user, payment_id } = await inReview();
      const accepted = await shop.admin.payment.resolve({ payment_id, action: 'accept', note: 'close enough' });
      expect(accepted).toMatchObject({ status: 'completed', review_reason: null, completed_at: shop.clock.now() });
      expect(await shop.periods(user)).toMatchObject([{ payment_id, duration_days: 30 }]);
      const [row] = await listAudit(shop.store, { target: `payment:${payment_id}`, action: 'payment.resolve' });
      expect(JSON.parse(row?.details ?? '')).toEqual({ action: 'accept', note: 'close enough', was: 'needs_review' });
    });

    test('fail when an admin rejects them, and stay failed when the same charge comes again', async () => {
      const { shop } = world;
      const { user, payment, payment_id } = await inReview();
      const rejected = await shop.admin.payment.resolve({ payment_id, action: 'reject', note: 'sent back' });
      expect(rejected).toMatchObject({ status: 'failed', review_reason: 'amount_mismatch' });
      expect(await shop.deliver(paid(payment))).toBe('duplicate');
      expect(await shop.payment(payment_id)).toMatchObject({ status: 'failed' });
      expect(await shop.periods(user)).toEqual([]);
    });

    test('are decided once by two admins at once', async () => {
      const { shop } = world;
      const { user, payment_id } = await inReview();
      const answers = await Promise.allSettled(
        Array.from({ length: 6 }, () => shop.admin.payment.resolve({ payment_id, action: 'accept' })),
      );
      expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(await shop.periods(user)).toHaveLength(1);
    });

    test('are decided by admins only', async () => {
      const { shop } = world;
      const { user, payment_id } = await inReview();
      for (const [actor, code] of [
        [customer(user), 'admin_required'],
        [service, 'not_allowed'],
      ] as const) {
        const call = shop.as(actor).payment.resolve({ payment_id, action: 'accept' });
        await expect(call).rejects.toThrow(code);
      }
      expect(await shop.payment(payment_id)).toMatchObject({ status: 'needs_review' });
    });

    test('for a lifetime on a lifetime cannot be accepted', async () => {
      const { shop } = world;
      const user = await shop.person();
      const orders = [
        await shop.order({ user, tariff: { duration_days: null } }),
        await shop.order({ user, tariff: { duration_days: null } }),
      ];
      for (const { payment } of orders) await shop.deliver(paid(payment));
      const payment_id = orders[1]?.payment.id ?? 0;
      const accept = shop.admin.payment.resolve({ payment_id, action: 'accept' });
      await expect(accept).rejects.toThrow('already_lifetime');
    });

    test('of an extra charge grant a period of their own when accepted', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      await shop.deliver(paid(payment, { provider_payment_id: randomUUID() }));
      const [child] = await shop.admin.payment.list({ user_id: user.id, status: 'needs_review' });
      await shop.admin.payment.resolve({ payment_id: child?.id ?? 0, action: 'accept' });
      expect(await shop.periods(user)).toHaveLength(2);
    });
  });

  test.each(['pending', 'completed', 'refunded'])('that are %s wait for no decision', async (status) => {
    const { shop } = world;
    const { payment } = await shop.order();
    if (status !== 'pending') await shop.deliver(paid(payment));
    if (status === 'refunded') await shop.deliver(refunded(payment));
    for (const action of ['accept', 'reject'] as const) {
      const call = shop.admin.payment.resolve({ payment_id: payment.id, action });
      await expect(call).rejects.toThrow('payment_not_open');
    }
    expect(await shop.payment(payment.id)).toMatchObject({ status });
  });

  describe('get an event that an admin attaches', () => {
    async function lastEventId(): Promise<number> {
      const rows = await listEvents(world.shop.store, {}, { limit: 10_000 });
      return rows.at(-1)?.id ?? 0;
    }

    test('when the sender had named no payment', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const stray = { provider_payment_id: chargeOf(payment), amount: '9.99', currency: 'USD' };
      expect(await shop.deliver({ type: 'payment.completed', data: stray })).toBe('parked');
      const id = await lastEventId();
      const attached = await shop.admin.payment.attachEvent({ id, payment_id: payment.id });
      expect(attached).toMatchObject({ id, outcome: 'settled', payment_id: payment.id, amount: '9.99' });
      expect(await shop.periods(user)).toHaveLength(1);
      const again = shop.admin.payment.attachEvent({ id, payment_id: payment.id });
      await expect(again).rejects.toThrow('event_not_open');
    });

    test('when the sender had named the wrong one', async () => {
      const { shop } = world;
      const [right, wrong] = [await shop.order(), await shop.order()];
      const crossed = paid(wrong.payment, { payment_id: right.payment.id });
      expect(await shop.deliver(crossed)).toBe('held');
      await shop.admin.payment.attachEvent({ id: await lastEventId(), payment_id: right.payment.id });
      expect(await shop.payment(right.payment.id)).toMatchObject({ status: 'completed' });
      expect(await shop.payment(wrong.payment.id)).toMatchObject({ status: 'pending' });
    });

    test('and it stays held when it is of another provider, or its charge is of another payment', async () => {
      const { shop } = world;
      const [mine, yours] = [await shop.order(), await shop.order()];
      await shop.deliver(paid(mine.payment), { provider: 'shop2', secret: OTHER_SECRET });
      const foreign = await shop.admin.payment.attachEvent({ id: await lastEventId(), payment_id: mine.payment.id });
      expect(foreign).toMatchObject({ outcome: 'held', reason: 'provider_mismatch' });
      await shop.deliver(paid(yours.payment));
      await shop.deliver(paid(mine.payment, { provider_payment_id: chargeOf(yours.payment) }));
      const stolen = await shop.admin.payment.attachEvent({ id: await lastEventId(), payment_id: mine.payment.id });
      expect(stolen).toMatchObject({ outcome: 'held', reason: 'identifiers_disagree' });
      expect(await shop.periods(mine.user)).toEqual([]);
    });

    test('but not an event, or for a payment, that is not there', async () => {
      const { shop } = world;
      const { payment } = await shop.order();
      const missing = shop.admin.payment.attachEvent({ id: 2_000_000_000, payment_id: payment.id });
      await expect(missing).rejects.toThrow('event_not_found');
      await shop.deliver({ type: 'payment.completed', data: { provider_payment_id: randomUUID() } });
      const nowhere = shop.admin.payment.attachEvent({ id: await lastEventId(), payment_id: 2_000_000_000 });
      await expect(nowhere).rejects.toThrow('payment_not_found');
    });
  });

  test('the inbox is read by admins only, and shows no raw body', async () => {
    const { shop } = world;
    const { user } = await shop.order();
    const since = (await shop.admin.payment.events({ limit: 100 })).at(-1)?.id ?? 0;
    await shop.deliver({ type: 'payment.completed', data: { provider_payment_id: randomUUID(), payer: 'Ann' } });
    const [event] = await shop.admin.payment.events({ outcome: 'parked', provider: 'standard', after_id: since });
    expect(event).toMatchObject({ outcome: 'parked', reason: 'payment_unknown', payment_id: null });
    expect(JSON.stringify(event)).not.toContain('Ann');
    await expect(shop.as(customer(user)).payment.events({})).rejects.toThrow('admin_required');
    await expect(shop.as(service).payment.events({})).rejects.toThrow('not_allowed');
  });

  test('a period that follows from a late payment starts when it is settled, behind what is there', async () => {
    const { shop } = world;
    const { user, payment } = await shop.order({ payment: { apply: 'extend' } });
    const later = await shop.order({ user });
    await shop.deliver(paid(later.payment));
    const start = shop.clock.now();
    shop.clock.advance(5 * DAY);
    await shop.deliver(paid(payment));
    expect((await shop.periods(user)).map(({ starts_at }) => starts_at)).toEqual([start, addSeconds(start, 30 * DAY)]);
  });
});

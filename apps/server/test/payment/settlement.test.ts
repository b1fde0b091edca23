import { randomUUID } from 'node:crypto';
import { findUserById, insertPeer, insertServer, snapshotForServer, type UserRow } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { desiredPeers } from '../../src/domain/peer.ts';
import type { SettlementEvent } from '../../src/domain/settlement.ts';
import { runDoctor } from '../../src/ops/doctor.ts';
import { ensureUser } from '../../src/ops/ensure-user.ts';
import { judgePeers } from '../../src/ops/peer-access.ts';
import { recordEvent } from '../../src/ops/record-event.ts';
import { chargeOf, customer, DAY, paid, refunded, service, useShop } from './shop.ts';

describe.each(engines)('settling on %s', (engine) => {
  const world = useShop(engine);

  const chain = async (user: UserRow) =>
    (await world.shop.periods(user))
      .filter(({ starts_at, ends_at }) => ends_at !== starts_at)
      .map(({ tariff_id, starts_at, ends_at }) => [tariff_id, starts_at, ends_at]);

  const told = async (user: UserRow) => {
    const query = world.shop.store.kysely.selectFrom('outbox_events').selectAll().where('user_id', '=', user.id);
    const rows = await query.orderBy('id').execute();
    return rows.map(({ type, payload }) => ({ type, data: JSON.parse(payload) }));
  };

  async function soundBooks(): Promise<void> {
    const found = await runDoctor(world.shop.store, { now: world.shop.clock.now(), overdueSeconds: 10 ** 9 });
    expect(found).toEqual([]);
  }

  describe('a change of tariff', () => {
    test('starts at once; the rest of the old one, with its traffic, and what was queued follow in their order', async () => {
      const { shop } = world;
      const first = await shop.order();
      const { user } = first;
      const at = shop.clock.now();
      await shop.deliver(paid(first.payment));
      const queued = await shop.order({ user, payment: { apply: 'extend' } });
      await shop.deliver(paid(queued.payment));
      await shop.store.kysely
        .updateTable('subscription_periods')
        .set({ used_bytes: 777 })
        .where('payment_id', '=', first.payment.id)
        .execute();
      shop.clock.advance(10 * DAY);
      const second = await shop.order({ user });
      await shop.deliver(paid(second.payment));
      const days = (count: number) => addSeconds(at, count * DAY);
      expect(await chain(user)).toEqual([
        [first.tariff.id, at, days(10)],
        [second.tariff.id, days(10), days(40)],
        [first.tariff.id, days(40), days(60)],
        [queued.tariff.id, days(60), days(90)],
      ]);
      expect((await shop.periods(user)).map(({ used_bytes }) => used_bytes)).toEqual([777, 0, 777, 0]);
      const status = await shop.as(customer(user)).payment.status({ payment_id: first.payment.id });
      expect(status).toMatchObject({
        subscription: {
          tariff_id: second.tariff.id,
          ended_at: days(90),
          periods: [
            { payment_id: first.payment.id },
            { payment_id: second.payment.id },
            { payment_id: first.payment.id },
            { payment_id: queued.payment.id },
          ],
        },
      });
      await soundBooks();
    });

    test('is undone by a refund of the new one, and a refund of the old one takes its rest', async () => {
      const { shop } = world;
      const first = await shop.order();
      const { user } = first;
      await shop.deliver(paid(first.payment));
      shop.clock.advance(10 * DAY);
      const second = await shop.order({ user });
      await shop.deliver(paid(second.payment));
      shop.clock.advance(2 * DAY);
      const now = shop.clock.now();
      await shop.deliver(refunded(second.payment));
      expect((await chain(user)).at(-1)).toEqual([first.tariff.id, now, addSeconds(now, 20 * DAY)]);
      shop.clock.advance(DAY);
      await shop.deliver(refunded(first.payment));
      expect((await chain(user)).at(-1)).toEqual([first.tariff.id, now, shop.clock.now()]);
      expect(await shop.as(customer(user)).payment.status({ payment_id: first.payment.id })).toMatchObject({
        status: 'refunded',
        subscription: null,
      });
      await soundBooks();
    });

    test('loses no day when payments for five tariffs arrive at once', async () => {
      const { shop } = world;
      const first = await shop.order();
      const { user } = first;
      await shop.deliver(paid(first.payment));
      shop.clock.advance(10 * DAY);
      const orders = [];
      for (let made = 0; made < 5; made += 1) orders.push(await shop.order({ user }));
      await Promise.all(orders.map(({ payment }) => shop.deliver(paid(payment))));
      expect((await shop.periods(user)).at(-1)?.ends_at).toBe(addSeconds(shop.clock.now(), (5 * 30 + 20) * DAY));
      await soundBooks();
    });
  });

  describe('a quote', () => {
    test.each(['now', 'extend'] as const)('with %s is what paying at the same moment then makes', async (apply) => {
      const { shop } = world;
      const first = await shop.order();
      const { user } = first;
      await shop.deliver(paid(first.payment));
      const queued = await shop.order({ user, payment: { apply: 'extend' } });
      await shop.deliver(paid(queued.payment));
      shop.clock.advance(3 * DAY + 17);
      const tariff = await shop.tariff({ price: '3.50', duration_days: 7 });
      const wanted = { tariff_id: tariff.id, provider: 'standard', apply };
      const quote = await shop.as(customer(user)).payment.quote(wanted);
      expect(quote).toMatchObject({ amount: '3.50', currency: 'USD', apply });
      const payment = await shop.as(customer(user)).payment.create(wanted);
      await shop.deliver(paid(payment));
      const now = shop.clock.now();
      const left = (await chain(user)).filter(([, , end]) => end == null || end > now);
      expect(quote.periods.map(({ tariff_id, starts_at, ends_at }) => [tariff_id, starts_at, ends_at])).toEqual(left);
      const bought = (await shop.periods(user)).find(({ payment_id }) => payment_id === payment.id);
      expect([quote.starts_at, quote.ends_at]).toEqual([bought?.starts_at, bought?.ends_at]);
      expect(quote.periods.filter(({ is_new }) => is_new)).toHaveLength(1);
    });

    test('says that the same tariff extends, and what cannot be bought', async () => {
      const { shop } = world;
      const { user, tariff, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const quote = (input: Record<string, unknown>) =>
        shop.as(customer(user)).payment.quote({ tariff_id: tariff.id, provider: 'standard', ...input });
      expect(await quote({ apply: 'now' })).toMatchObject({
        apply: 'extend',
        ends_at: addSeconds(shop.clock.now(), 60 * DAY),
      });
      await expect(quote({ currency: 'EUR' })).rejects.toThrow('currency_not_sold');
      await expect(quote({ tariff_id: 2_000_000_000 })).rejects.toThrow('tariff_not_found');
      await expect(quote({ user_id: (await shop.person()).id })).rejects.toThrow('not_allowed');
      await expect(shop.as(service).payment.quote({ tariff_id: tariff.id })).rejects.toThrow('validation_failed');
      const forever = await shop.order({ user, tariff: { duration_days: null } });
      await shop.deliver(paid(forever.payment));
      await expect(quote({})).rejects.toThrow('already_lifetime');
    });
  });

  describe('a dispute', () => {
    /** What a provider's adapter hands over. */
    const say = (event: Omit<SettlementEvent, 'provider'>, dedupeKey: string = randomUUID()) => {
      const verified = {
        kind: 'event',
        dedupeKey,
        type: event.type,
        event: { provider: 'standard', ...event },
      } as const;
      const received = { name: 'standard', verified, raw: '{}' };
      return world.shop.store.transaction((tx) => recordEvent(world.shop.services, tx, received));
    };

    async function customerWithDevice() {
      const { shop } = world;
      const order = await shop.order();
      await shop.deliver(paid(order.payment));
      const { id: server_id } = await insertServer(shop.store, {
        name: randomUUID(),
        driver: 'none',
        keys: 'given',
        mode: 'apply',
        interface: 'wg0',
        pool_v4: '10.8.0.0/24',
        dns: '1.1.1.1',
        mtu: 1420,
        client_allowed_ips: '0.0.0.0/0',
        keepalive: 25,
        origin: 'api',
        created_at: shop.clock.now(),
      });
      const peer = await shop.store.transaction((tx) =>
        insertPeer(tx, {
          user_id: order.user.id,
          server_id,
          key_origin: 'client',
          public_key: randomUUID(),
          allowed_ips: '0.0.0.0/0',
          address_index: 2,
          wg_ip: '10.8.0.2/32',
          created_at: shop.clock.now(),
        }),
      );
      /** What the peer's owner sees, and what the reconciler wants. */
      const access = async () => {
        const now = shop.clock.now();
        const [judged] = await judgePeers(shop.store, [peer], now);
        const snapshot = await snapshotForServer(shop.store, server_id);
        const [wish] = snapshot === undefined ? [] : desiredPeers({ ...snapshot, installId: 'test' }, now).wishes;
        return [judged?.access.reason, wish?.state];
      };
      return { ...order, access };
    }

    test('cuts the peers that it paid for until it is decided, and gives them back when it is won', async () => {
      const { shop } = world;
      const { user, tariff, payment, access } = await customerWithDevice();
      const about = { chargeId: chargeOf(payment), refundId: randomUUID() };
      expect(await access()).toEqual(['active', 'present']);
      const woken = shop.woken.reconciler;
      expect(await say({ type: 'disputed', ...about })).toMatchObject({ outcome: 'settled', payment_id: payment.id });
      expect(shop.woken.reconciler).toBe(woken + 1);
      expect(await access()).toEqual(['blocked', 'suspended']);
      const shown = () => shop.admin.payment.get({ payment_id: payment.id });
      expect(await shown()).toMatchObject({ status: 'completed', disputed_at: shop.clock.now() });
      expect(await say({ type: 'disputed', ...about })).toMatchObject({ outcome: 'duplicate' });
      expect(await say({ type: 'dispute_won', ...about })).toMatchObject({ outcome: 'settled' });
      expect(await access()).toEqual(['active', 'present']);
      expect(await say({ type: 'disputed', ...about })).toMatchObject({ outcome: 'ignored' });
      expect(await shown()).toMatchObject({ disputed_at: null });
      expect(await chain(user)).toEqual([[tariff.id, shop.clock.now(), addSeconds(shop.clock.now(), 30 * DAY)]]);
      await soundBooks();
    });

    test('follows the rest of what it paid for behind another tariff', async () => {
      const { shop } = world;
      const { user, payment, access } = await customerWithDevice();
      shop.clock.advance(10 * DAY);
      await say({ type: 'disputed', chargeId: chargeOf(payment) });
      const second = await shop.order({ user });
      await shop.deliver(paid(second.payment));
      expect(await access()).toEqual(['active', 'present']);
      shop.clock.advance(30 * DAY);
      expect(await access()).toEqual(['blocked', 'suspended']);
    });

    test('on what is queued leaves what runs alone, suspends it in its turn, and takes only it when it is lost', async () => {
      const { shop } = world;
      const { user, tariff, access } = await customerWithDevice();
      const second = await shop.order({ user, payment: { apply: 'extend' } });
      await shop.deliver(paid(second.payment));
      const third = await shop.order({ user, payment: { apply: 'extend' } });
      await shop.deliver(paid(third.payment));
      const about = { chargeId: chargeOf(second.payment), refundId: randomUUID() };
      await say({ type: 'disputed', ...about });
      expect(await access()).toEqual(['active', 'present']);
      shop.clock.advance(30 * DAY);
      expect(await access()).toEqual(['blocked', 'suspended']);
      shop.clock.advance(10 * DAY);
      await say({ type: 'dispute_lost', ...about });
      expect(await access()).toEqual(['active', 'present']);
      const start = shop.clock.now();
      expect(await chain(user)).toEqual([
        [tariff.id, addSeconds(start, -40 * DAY), addSeconds(start, -10 * DAY)],
        [second.tariff.id, addSeconds(start, -10 * DAY), start],
        [third.tariff.id, start, addSeconds(start, 30 * DAY)],
      ]);
      await soundBooks();
    });

    test('that is lost after all or a part went back, or after the time was used, takes no more than is left', async () => {
      const { shop } = world;
      for (const [amount, left] of [
        ['9.99', 0],
        ['4.00', 599],
        [undefined, 999],
      ] as const) {
        const { payment, user } = await shop.order();
        await shop.deliver(paid(payment));
        if (amount !== undefined) await shop.deliver(refunded(payment, { amount }));
        if (amount === undefined) shop.clock.advance(31 * DAY);
        const before = await chain(user);
        const refundId = randomUUID();
        await say({ type: 'disputed', chargeId: chargeOf(payment), refundId });
        await say({ type: 'dispute_lost', chargeId: chargeOf(payment), refundId });
        expect(await shop.payment(payment.id)).toMatchObject({ status: 'refunded', refunded_minor: 999 });
        const events = (await told(user)).filter(({ type }) => type === 'payment.refunded');
        expect(events).toHaveLength((amount === undefined ? 0 : 1) + (left === 0 ? 0 : 1));
        if (amount === undefined) expect(await chain(user)).toEqual(before);
        // What the provider then tells of the same loss is no further refund.
        expect(await shop.deliver(refunded(payment))).toBe('ignored');
      }
      await soundBooks();
    });

    test('that is lost takes back what is left, also when the news of it come before the money', async () => {
      const { shop } = world;
      const { payment, user } = await shop.order();
      const about = { reference: payment.reference, chargeId: chargeOf(payment), refundId: randomUUID() };
      expect(await say({ type: 'dispute_lost', ...about })).toMatchObject({ outcome: 'parked' });
      await shop.deliver(paid(payment));
      await shop.settleParked();
      expect(await shop.payment(payment.id)).toMatchObject({
        status: 'refunded',
        refunded_minor: 999,
        disputed_at: null,
      });
      expect((await shop.periods(user)).at(-1)).toMatchObject({ ends_at: shop.clock.now() });
      expect(await say({ type: 'disputed', ...about })).toMatchObject({ outcome: 'ignored' });
      await soundBooks();
    });
  });

  describe('a refund of money in review', () => {
    test('in part stays with the payment, and cuts what an admin then accepts', async () => {
      const { shop } = world;
      const { payment, user } = await shop.order({ tariff: { price: '10.00' } });
      await shop.deliver(paid(payment, { amount: '20.00' }));
      expect(await shop.deliver(refunded(payment, { amount: '5.00' }))).toBe('settled');
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'needs_review', refunded_minor: 500 });
      await shop.admin.payment.resolve({ payment_id: payment.id, action: 'accept', note: 'kept' });
      expect(await shop.payment(payment.id)).toMatchObject({ status: 'partially_refunded', refunded_minor: 500 });
      expect(await shop.periods(user)).toMatchObject([{ cut_seconds: 7.5 * DAY }]);
      await soundBooks();
    });

    test('in parts that make the whole closes it, and money that was rejected can go back', async () => {
      const { shop } = world;
      const [one, two] = [await shop.order(), await shop.order()];
      for (const { payment } of [one, two]) await shop.deliver(paid(payment, { amount: '5.00' }));
      await shop.deliver(refunded(one.payment, { amount: '2.00' }));
      await shop.deliver(refunded(one.payment, { amount: '3.00' }));
      expect(await shop.payment(one.payment.id)).toMatchObject({ status: 'refunded', refunded_minor: 500 });
      await shop.admin.payment.resolve({ payment_id: two.payment.id, action: 'reject', note: 'too little' });
      expect(await shop.deliver(refunded(two.payment, { amount: '5.00' }))).toBe('settled');
      expect(await shop.payment(two.payment.id)).toMatchObject({ status: 'failed', refunded_minor: 500 });
      await soundBooks();
    });
  });

  describe('the outside is told', () => {
    test('of a payment and its period, of what is queued behind it, and of a refund', async () => {
      const { shop } = world;
      const { user, tariff, payment } = await shop.order();
      await shop.deliver(paid(payment));
      await shop.deliver(paid(payment));
      const [period] = await shop.periods(user);
      const about = {
        payment_id: payment.id,
        reference: payment.reference,
        user_id: user.id,
        tariff_id: tariff.id,
        amount: '9.99',
        currency: 'USD',
        provider: 'standard',
        provider_payment_id: chargeOf(payment),
      };
      const started = {
        user_id: user.id,
        tariff_id: tariff.id,
        period_id: period?.id,
        starts_at: period?.starts_at,
        ends_at: period?.ends_at,
        source: 'payment',
      };
      expect(await told(user)).toEqual([
        { type: 'payment.completed', data: { ...about, status: 'completed' } },
        { type: 'subscription.started', data: started },
      ]);
      await shop.admin.subscription.extend({ user_id: user.id, days: 1, reason: 'outage' });
      await shop.deliver(refunded(payment, { amount: '1.00' }));
      expect((await told(user)).slice(2)).toMatchObject([
        { type: 'subscription.extended', data: { source: 'admin', starts_at: period?.ends_at } },
        { type: 'payment.refunded', data: { status: 'partially_refunded', refunded_amount: '1.00' } },
      ]);
    });

    test('of money that waits for a person, and of what it then bought', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment, { amount: '1.00' }));
      const review = { status: 'needs_review', review_reason: 'amount_mismatch' };
      expect(await told(user)).toMatchObject([{ type: 'payment.needs_review', data: review }]);
      await shop.admin.payment.resolve({ payment_id: payment.id, action: 'accept', note: 'fine' });
      expect((await told(user)).map(({ type }) => type)).toEqual([
        'payment.needs_review',
        'payment.completed',
        'subscription.started',
      ]);
    });

    test('of a second charge by its own payment', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      await shop.deliver(paid(payment, { provider_payment_id: randomUUID() }));
      const [child] = (await told(user)).slice(2);
      expect(child).toMatchObject({ type: 'payment.needs_review', data: { review_reason: 'extra_charge' } });
      expect(child?.data.payment_id).not.toBe(payment.id);
    });

    test('of a tariff that starts at once as a start, and of a gift', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      shop.clock.advance(DAY);
      const second = await shop.order({ user });
      await shop.deliver(paid(second.payment));
      await shop.admin.subscription.grant({ user_id: user.id, tariff_id: (await shop.tariff()).id });
      const types = (await told(user)).map(({ type }) => type).filter((type) => type.startsWith('subscription'));
      expect(types).toEqual(['subscription.started', 'subscription.started', 'subscription.extended']);
    });

    test('of a new user once, however often he is ensured', async () => {
      const { shop } = world;
      const source = { actor: 'key:1', ip: '192.0.2.1', request_id: 'r' };
      const identity = { telegramId: 5_000_000 + Math.floor(Math.random() * 1_000_000) };
      const ensure = () => ensureUser(shop.services, identity, { source, beforeCommit: async () => {} });
      const users = await Promise.all([ensure(), ensure(), ensure()]);
      const user = await findUserById(shop.store, users[0]?.id ?? 0);
      if (user === undefined) throw new Error('no user was made');
      const data = { user_id: user.id, email: null, telegram_id: identity.telegramId };
      expect(await told(user)).toEqual([{ type: 'user.created', data }]);
    });

    test('of nothing that was rolled back', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      const event = { type: 'completed', chargeId: randomUUID(), reference: payment.reference } as const;
      const verified = {
        kind: 'event',
        dedupeKey: randomUUID(),
        type: 'x',
        event: { provider: 'standard', amountMinor: 999, currency: 'USD', ...event },
      } as const;
      const failing = shop.store.transaction(async (tx) => {
        await recordEvent(shop.services, tx, { name: 'standard', verified, raw: '{}' });
        throw new Error('the power went');
      });
      await expect(failing).rejects.toThrow('the power went');
      expect(await told(user)).toEqual([]);
    });
  });
});

import { randomUUID } from 'node:crypto';
import { updateUser } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { customer, DAY, paid, Shop, service, useShop } from './shop.ts';

describe.each(engines)('payment.create on %s', (engine) => {
  const world = useShop(engine);

  async function buyer() {
    const user = await world.shop.person();
    return { user, calls: world.shop.as(customer(user)) };
  }

  test("quotes the tariff's price to the caller", async () => {
    const { shop } = world;
    const { user, calls } = await buyer();
    const tariff = await shop.tariff({ price: '12.34' });
    const payment = await calls.payment.create({ tariff_id: tariff.id, provider: 'standard' });
    expect(payment).toEqual({
      id: expect.any(Number),
      reference: expect.stringMatching(/^[A-Za-z0-9_-]{22}$/),
      parent_id: null,
      user_id: user.id,
      tariff_id: tariff.id,
      amount: '12.34',
      currency: 'USD',
      status: 'pending',
      refunded_amount: '0.00',
      review_reason: null,
      disputed_at: null,
      provider: 'standard',
      provider_payment_id: null,
      created_at: shop.clock.now(),
      completed_at: null,
      checkout: null,
    });
  });

  test('D34: an amount that differs from the price is refused, but for an admin', async () => {
    const { shop } = world;
    const { user, calls } = await buyer();
    const { id: tariff_id } = await shop.tariff();
    const order = { tariff_id, provider: 'standard' };
    await expect(calls.payment.create({ ...order, amount: '0.01' })).rejects.toThrow('price_mismatch');
    await expect(calls.payment.create({ ...order, amount: '-100.00' })).rejects.toThrow('validation_failed');
    await expect(calls.payment.create({ ...order, amount: '9.999' })).rejects.toThrow('validation_failed');
    const bot = shop.as(service).payment.create({ ...order, user_id: user.id, amount: '0.01' });
    await expect(bot).rejects.toThrow('price_mismatch');
    expect(await calls.payment.create({ ...order, amount: '9.99' })).toMatchObject({ amount: '9.99' });
    const cheap = await shop.admin.payment.create({ ...order, user_id: user.id, amount: '1.00' });
    expect(cheap).toMatchObject({ amount: '1.00', user_id: user.id });
    expect(await shop.payment(cheap.id)).toMatchObject({ list_amount_minor: 999, amount_minor: 100 });
  });

  test('D34: a payment always has an owner, and a user names nobody else as such', async () => {
    const { shop } = world;
    const { user, calls } = await buyer();
    const other = await shop.person();
    const order = { tariff_id: (await shop.tariff()).id, provider: 'standard' };
    await expect(calls.payment.create({ ...order, user_id: other.id })).rejects.toThrow('not_allowed');
    expect(await calls.payment.create({ ...order, user_id: user.id })).toMatchObject({ user_id: user.id });
    expect(await calls.payment.create({ ...order, user_id: null })).toMatchObject({ user_id: user.id });
    await expect(shop.as(service).payment.create(order)).rejects.toThrow('validation_failed');
    await expect(shop.as(service).payment.create({ ...order, user_id: 2_000_000_000 })).rejects.toThrow(
      'user_not_found',
    );
  });

  test('a service opens payments for users, never for admins and never for removed ones', async () => {
    const { shop } = world;
    const order = { tariff_id: (await shop.tariff()).id, provider: 'standard' };
    const boss = await shop.person({ role: 'admin' });
    await expect(shop.as(service).payment.create({ ...order, user_id: boss.id })).rejects.toThrow('not_allowed');
    const gone = await shop.person();
    await updateUser(shop.store, gone.id, { removed_at: shop.clock.now(), email: null });
    await expect(shop.as(service).payment.create({ ...order, user_id: gone.id })).rejects.toThrow('user_not_found');
  });

  test('D35: what a database would choke on is refused before it', async () => {
    const { calls } = await buyer();
    const { id: tariff_id } = await world.shop.tariff();
    for (const input of [
      { currency: 'DOLLARS99' },
      { amount: '99999999999999' },
      { user_id: 0 },
      { user_id: 2_147_483_648 },
      { tariff_id: 0 },
      { provider: 'a\u0000' },
      { provider_payment_id: 'with space' },
      { return_url: 'javascript:alert(1)' },
      { return_url: 'not a url' },
      { unknown: 1 },
    ]) {
      await expect(calls.payment.create({ tariff_id, ...input })).rejects.toThrow('validation_failed');
    }
  });

  describe('chooses', () => {
    test('the first price that the provider may take, or the one in the currency named', async () => {
      const { calls } = await buyer();
      const prices = [
        { currency: 'XTR', amount: '250', providers: ['telegram_stars'] },
        { currency: 'RUB', amount: '499.00' },
        { currency: 'EUR', amount: '6.00' },
      ];
      const { id: tariff_id } = await world.shop.tariff({ price: undefined, prices });
      const order = { tariff_id, provider: 'standard' };
      expect(await calls.payment.create(order)).toMatchObject({ currency: 'RUB', amount: '499.00' });
      const inEuro = await calls.payment.create({ ...order, currency: 'EUR' });
      expect(inEuro).toMatchObject({ currency: 'EUR', amount: '6.00' });
      await expect(calls.payment.create({ ...order, currency: 'USD' })).rejects.toThrow('currency_not_sold');
      await expect(calls.payment.create({ ...order, currency: 'XTR' })).rejects.toThrow('currency_not_sold');
    });

    test('manual when several providers are configured, and refuses names that are not', async () => {
      const { calls } = await buyer();
      const { id: tariff_id } = await world.shop.tariff();
      expect(await calls.payment.create({ tariff_id })).toMatchObject({ provider: 'manual' });
      await expect(calls.payment.create({ tariff_id, provider: 'stripe' })).rejects.toThrow('provider_not_found');
    });

    test('the only configured provider, or manual when there is none', async () => {
      for (const [env, provider] of [
        [{ PAYMENT_WEBHOOK_SECRETS: '' }, 'standard'],
        [{ PAYMENT_WEBHOOK_SECRETS: '', PAYMENT_WEBHOOK_SECRET: '' }, 'manual'],
      ] as const) {
        await using shop = await Shop.open(engine, env);
        await shop.hireAdmin();
        const { id: tariff_id } = await shop.tariff();
        expect(await shop.admin.payment.create({ tariff_id })).toMatchObject({ provider });
      }
    });

    test('the one tariff that costs what an older client names', async () => {
      const { shop } = world;
      const { calls } = await buyer();
      const tariff = await shop.tariff({ price: '77.01' });
      const old = { amount: '77.01', currency: 'USD', provider: null, provider_payment_id: null, user_id: null };
      expect(await calls.payment.create(old)).toMatchObject({ tariff_id: tariff.id, amount: '77.01' });
      expect(await calls.payment.create({ amount: '77.01' })).toMatchObject({ tariff_id: tariff.id });
      await expect(calls.payment.create({ amount: '77.02' })).rejects.toThrow('tariff_required');
      await expect(calls.payment.create({ amount: '77.01', currency: 'EUR' })).rejects.toThrow('tariff_required');
      await expect(calls.payment.create({})).rejects.toThrow('tariff_required');
      await shop.tariff({ price: '77.01' });
      await expect(calls.payment.create(old)).rejects.toThrow('tariff_required');
    });

    test('never an archived or unknown tariff', async () => {
      const { shop } = world;
      const { calls } = await buyer();
      const { id: tariff_id } = await shop.tariff({ price: '78.01' });
      await shop.admin.tariff.archive({ tariff_id });
      await expect(calls.payment.create({ tariff_id })).rejects.toThrow('tariff_archived');
      await expect(calls.payment.create({ amount: '78.01' })).rejects.toThrow('tariff_required');
      await expect(calls.payment.create({ tariff_id: 2_000_000_000 })).rejects.toThrow('tariff_not_found');
    });
  });

  describe('repeated', () => {
    test('answers the open payment, also when 20 calls come at once', async () => {
      const { calls } = await buyer();
      const order = { tariff_id: (await world.shop.tariff()).id, provider: 'standard' };
      const payments = await Promise.all(Array.from({ length: 20 }, () => calls.payment.create(order)));
      expect(new Set(payments.map(({ id }) => id)).size).toBe(1);
    });

    test('answers another payment for another provider, currency or user, and once the first is paid', async () => {
      const { shop } = world;
      const { calls } = await buyer();
      const prices = [
        { currency: 'USD', amount: '9.99' },
        { currency: 'EUR', amount: '8.99' },
      ];
      const order = { tariff_id: (await shop.tariff({ price: undefined, prices })).id, provider: 'standard' };
      const first = await calls.payment.create(order);
      const others = [
        await calls.payment.create({ ...order, provider: 'shop2' }),
        await calls.payment.create({ ...order, currency: 'EUR' }),
        await (await buyer()).calls.payment.create(order),
      ];
      await shop.deliver(paid(first));
      const next = await calls.payment.create(order);
      expect(new Set([first, next, ...others].map(({ id }) => id)).size).toBe(5);
    });

    test('quotes anew once the tariff costs or gives something else', async () => {
      const { shop } = world;
      const { calls } = await buyer();
      const { id: tariff_id } = await shop.tariff();
      const order = { tariff_id, provider: 'standard' };
      const first = await calls.payment.create(order);
      await shop.admin.tariff.update({ tariff_id, price: '5.00' });
      const cheaper = await calls.payment.create(order);
      expect(cheaper).toMatchObject({ amount: '5.00' });
      await shop.admin.tariff.update({ tariff_id, duration_days: 60 });
      const longer = await calls.payment.create(order);
      expect(new Set([first.id, cheaper.id, longer.id]).size).toBe(3);
    });

    test('with the same charge id answers the same payment, whatever else is open', async () => {
      const { shop } = world;
      const user = await shop.person();
      const order = { user_id: user.id, tariff_id: (await shop.tariff()).id, provider: 'standard' };
      const create = (provider_payment_id?: string) =>
        shop.as(service).payment.create({ ...order, ...(provider_payment_id && { provider_payment_id }) });
      const [a, b] = [randomUUID(), randomUUID()];
      const first = await create(a);
      const second = await create(b);
      expect(second.id).not.toBe(first.id);
      expect((await create(a)).id).toBe(first.id);
      expect((await create(b)).id).toBe(second.id);
      const many = await Promise.all(Array.from({ length: 10 }, () => create(a)));
      expect(new Set(many.map(({ id }) => id))).toEqual(new Set([first.id]));
    });

    test('with the same charge id after it was settled answers the settled payment', async () => {
      const { shop } = world;
      const charge = randomUUID();
      const { user, tariff, payment } = await shop.order({
        tariff: { duration_days: null },
        payment: { provider_payment_id: charge },
      });
      await shop.deliver(paid(payment, { provider_payment_id: charge }));
      const again = shop.as(service).payment.create({
        user_id: user.id,
        tariff_id: tariff.id,
        provider: 'standard',
        provider_payment_id: charge,
      });
      expect(await again).toMatchObject({ id: payment.id, status: 'completed' });
    });
  });

  describe('with a charge id', () => {
    test('from its owner binds nothing: a user cannot claim money by its number', async () => {
      const { shop } = world;
      const { calls, user } = await buyer();
      const order = { tariff_id: (await shop.tariff()).id, provider: 'standard' };
      const payment = await calls.payment.create({ ...order, provider_payment_id: 'of-somebody-else' });
      expect(payment.provider_payment_id).toBeNull();
      const data = { provider_payment_id: 'of-somebody-else', amount: '9.99', currency: 'USD' };
      expect(await shop.deliver({ type: 'payment.completed', data })).toBe('parked');
      await shop.settleParked();
      expect(await shop.periods(user)).toEqual([]);
    });

    test('of another payment is a conflict, also when both come at once', async () => {
      const { shop } = world;
      const provider_payment_id = randomUUID();
      const { id: tariff_id } = await shop.tariff();
      const users = await Promise.all(Array.from({ length: 5 }, () => shop.person()));
      const answers = await Promise.allSettled(
        users.map(({ id: user_id }) =>
          shop.as(service).payment.create({ user_id, tariff_id, provider: 'standard', provider_payment_id }),
        ),
      );
      expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason.message] : []));
      expect(new Set(refusals)).toEqual(new Set(['payment_conflict']));
    });
  });

  describe('with a return_url', () => {
    test.each([
      'https://shop.example/thanks?x=1',
      'https://shop.example',
      'https://api.example/done',
      'https://user:pass@shop.example/',
    ])('%s is accepted: its origin is listed', async (return_url) => {
      const { calls } = await buyer();
      const { id: tariff_id } = await world.shop.tariff();
      await expect(calls.payment.create({ tariff_id, return_url })).resolves.toMatchObject({ status: 'pending' });
    });

    test.each([
      'https://evil.example/',
      'http://shop.example/',
      'https://shop.example:8443/',
      'https://shop.example.evil.example/',
      'https://shop.example@evil.example/',
    ])('%s is refused', async (return_url) => {
      const { calls } = await buyer();
      const { id: tariff_id } = await world.shop.tariff();
      await expect(calls.payment.create({ tariff_id, return_url })).rejects.toThrow('return_url_not_allowed');
    });

    test('stores no character that a database refuses', async () => {
      const { calls } = await buyer();
      const { id: tariff_id } = await world.shop.tariff();
      const payment = await calls.payment.create({ tariff_id, return_url: 'https://shop.example/\u0000\ud800' });
      expect((await world.shop.payment(payment.id)).return_url).toBe('https://shop.example/%00%EF%BF%BD');
    });
  });

  test('is refused on top of a lifetime', async () => {
    const { shop } = world;
    const { user, payment } = await shop.order({ tariff: { duration_days: null } });
    const { id: tariff_id } = await shop.tariff();
    const calls = shop.as(customer(user));
    await calls.payment.create({ tariff_id, provider: 'standard' });
    await shop.deliver(paid(payment));
    await expect(calls.payment.create({ tariff_id, provider: 'standard' })).rejects.toThrow('already_lifetime');
  });

  test('a user has at most five open payments a day, also when he opens ten at once', async () => {
    const { shop } = world;
    const { calls, user } = await buyer();
    const tariffs = [];
    for (let made = 0; made < 10; made += 1) tariffs.push(await shop.tariff());
    const answers = await Promise.allSettled(tariffs.map(({ id }) => calls.payment.create({ tariff_id: id })));
    const opened = answers.filter(({ status }) => status === 'fulfilled');
    expect(opened).toHaveLength(5);
    const refused = tariffs[answers.findIndex(({ status }) => status === 'rejected')];
    const order = { tariff_id: refused?.id ?? 0 };
    await expect(calls.payment.create(order)).rejects.toThrow('too_many_open_payments');
    await expect(shop.as(service).payment.create({ ...order, user_id: user.id })).resolves.toBeDefined();
    shop.clock.advance(DAY + 1);
    await expect(calls.payment.create({ tariff_id: (await shop.tariff()).id })).resolves.toBeDefined();
  });

  test('a manual payment tells how to pay while it is open, and an admin settles it', async () => {
    const { shop } = world;
    const { calls, user } = await buyer();
    const tariff = await shop.tariff();
    const payment = await calls.payment.create({ tariff_id: tariff.id, provider: 'manual' });
    const { checkout } = payment;
    expect(checkout).toEqual({ type: 'manual', instructions: expect.stringContaining(payment.reference) });
    const settled = await shop.admin.payment.resolve({ payment_id: payment.id, action: 'accept', note: 'cash' });
    expect(settled).toMatchObject({ status: 'completed', completed_at: shop.clock.now(), checkout: null });
    expect(await shop.periods(user)).toMatchObject([{ source: 'payment', payment_id: payment.id }]);
    const again = shop.admin.payment.resolve({ payment_id: payment.id, action: 'accept' });
    await expect(again).rejects.toThrow('payment_not_open');
  });

  test('nobody signed in: nothing to pay', async () => {
    const anybody = world.shop.as({ kind: 'public' });
    await expect(anybody.payment.create({ tariff_id: 1 })).rejects.toThrow('not_authenticated');
  });
});

import { listEvents, listPayments, lockUser } from '@vpn-api/db';
import { describe, expect, it } from 'vitest';
import type { Delivery } from '../../src/pay/provider.ts';
import { engines } from '../harness.ts';
import { CALLED_PROVIDERS, createPayment, paymentRow, periodsOf, type Shop, send, startShop } from './provider-shop.ts';

const behindProxy = { TRUSTED_PROXIES: '127.0.0.1' };

async function deliver({ app }: Shop, provider: string, deliveries: readonly Delivery[]) {
  const headers: Record<string, string> = provider === 'yookassa' ? { 'x-forwarded-for': '185.71.76.1' } : {};
  const answers = [];
  for (const delivery of deliveries) answers.push(await send(app, provider, delivery, headers));
  return answers;
}

describe.each(engines)('deliveries of providers on %s', (engine) => {
  it.each(CALLED_PROVIDERS)(
    'settle what was paid at %s before its answer to the opening was stored',
    async (side, name, currency) => {
      await using shop = await startShop(engine, behindProxy);
      const answer = shop[side].hold('POST');
      const creating = createPayment(shop, name, currency);
      await answer.done;
      const [row] = await listPayments(shop.app.store);
      expect(row).toMatchObject({ status: 'pending', provider_payment_id: null });
      await deliver(shop, name, shop[side].pay(row?.reference ?? ''));
      await shop.app.settled();
      answer.release();
      const payment = await creating;
      expect(payment).toMatchObject({ id: row?.id, status: 'completed', checkout: null });
      expect(payment.provider_payment_id).not.toBeNull();
      expect(await periodsOf(shop)).toEqual(['running']);
    },
  );

  it('of two providers that were both paid for one order grant both, and none speaks for the other', async () => {
    await using shop = await startShop(engine);
    const card = await createPayment(shop, 'stripe', 'USD');
    const coins = await createPayment(shop, 'crypto_pay', 'USDT');
    const invoice = { invoice_id: 77, status: 'paid', currency_type: 'fiat', fiat: 'USD', amount: '9.99' };
    const forOther = shop.cryptoPay.deliver('invoice_paid', { ...invoice, payload: card.reference });
    expect(await deliver(shop, 'crypto_pay', [forOther])).toEqual([[200, 'held']]);
    expect(await listEvents(shop.app.store)).toMatchObject([{ reason: 'provider_mismatch' }]);
    expect((await paymentRow(shop, card)).status).toBe('pending');
    expect(await deliver(shop, 'stripe', shop.stripe.pay(card.reference))).toEqual([[200, 'settled']]);
    expect(await deliver(shop, 'crypto_pay', shop.cryptoPay.pay(coins.reference))).toEqual([[200, 'settled']]);
    expect(await periodsOf(shop)).toEqual(['running', 'running']);
  });

  it('with two invoices under one update_id are two', async () => {
    await using shop = await startShop(engine);
    const first = await createPayment(shop, 'crypto_pay', 'USDT');
    const other = await createPayment(shop, 'crypto_pay', 'RUB');
    for (const { reference } of [first, other]) {
      const paid = shop.cryptoPay.pay(reference);
      expect(JSON.parse(paid[0]?.raw ?? '{}').update_id).toBe(1);
      expect(await deliver(shop, 'crypto_pay', paid)).toEqual([[200, 'settled']]);
    }
  });

  it('are taken as fast as they come, whatever other callers are allowed', async () => {
    await using shop = await startShop(engine, { RATE_LIMITS: 'auth=0,default=30/min' });
    const payment = await createPayment(shop, 'stripe', 'USD');
    const paid = shop.stripe.pay(payment.reference);
    const results = [];
    for (let n = 0; n < 60; n += 1) results.push(...(await deliver(shop, 'stripe', paid)));
    expect(results.map(([status]) => status)).toEqual(Array.from({ length: 60 }, () => 200));
    const others = [];
    for (let n = 0; n < 40; n += 1) others.push((await shop.app.rest('GET', '/tariffs')).status);
    expect(others).toContain(429);
  });

  it('that are refused by the hundred leave a line a minute in the log, which says how many they were', async () => {
    await using shop = await startShop(engine);
    const forged = { raw: '{}', headers: { 'stripe-signature': 't=1,v1=0' }, remoteAddress: undefined };
    const flood = () =>
      deliver(
        shop,
        'stripe',
        Array.from({ length: 50 }, () => forged),
      );
    const lines = () =>
      shop.app.logs.filter((line) => line.includes('webhook rejected')).map((line) => JSON.parse(line));
    expect((await flood()).every(([status]) => status === 401)).toBe(true);
    expect(lines()).toMatchObject([{ provider: 'stripe', unsaid: 0 }]);
    expect((await deliver(shop, 'crypto_pay', [forged]))[0]?.[0]).toBe(401);
    shop.clock.advance(60);
    await flood();
    expect(lines()).toMatchObject([
      { provider: 'stripe' },
      { provider: 'crypto_pay' },
      { provider: 'stripe', unsaid: 49 },
    ]);
  });

  it('of a sender known by its address are refused over tRPC, where nobody vouches for one', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const [notice] = shop.yookassa.pay(payment.reference);
    const input = { provider: 'yookassa', headers: { 'x-forwarded-for': '185.71.76.1' }, raw_body: notice?.raw };
    const headers = { 'x-forwarded-for': '185.71.76.1' };
    const { status, body } = await shop.app.trpcMutate('payment.webhook', input, { headers });
    expect([status, body.error?.data.problem.code]).toEqual([403, 'not_allowed']);
    expect(await listEvents(shop.app.store)).toEqual([]);
  });

  it('are taken up to 64 KB', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    const [session] = shop.stripe.pay(payment.reference).map(({ raw }) => JSON.parse(raw).data.object);
    const sized = (bytes: number) => {
      const bare = shop.stripe.deliver('checkout.session.completed', session, { filler: '' }).raw.length;
      return shop.stripe.deliver('checkout.session.completed', session, { filler: 'x'.repeat(bytes - bare) });
    };
    expect((await deliver(shop, 'stripe', [sized(65_537)]))[0]?.[0]).toBe(413);
    expect(await listEvents(shop.app.store)).toEqual([]);
    expect(await deliver(shop, 'stripe', [sized(65_536)])).toEqual([[200, 'settled']]);
  });
});

/** SQLite has one connection, which is never waited for with a lock in hand. */
describe('deliveries of providers on a pool of connections', () => {
  it('by the hundred about one payment leave connections to everybody else', async () => {
    await using shop = await startShop('postgres', { DATABASE_POOL_SIZE: '5' });
    const { app, userId } = shop;
    const payment = await createPayment(shop, 'stripe', 'USD');
    const [paid] = shop.stripe.pay(payment.reference);
    const locked = Promise.withResolvers<void>();
    const done = Promise.withResolvers<void>();
    const holding = app.store.transaction(async (tx) => {
      await lockUser(tx, userId);
      locked.resolve();
      await done.promise;
    });
    await locked.promise;
    const storm = Array.from({ length: 100 }, () => deliver(shop, 'stripe', paid ? [paid] : []));
    const others = [];
    for (let n = 0; n < 3; n += 1) others.push((await app.rest('GET', '/tariffs')).status);
    done.resolve();
    await holding;
    expect(others).toEqual([200, 200, 200]);
    const results = (await Promise.all(storm)).flat().map(([, result]) => result);
    expect(results.toSorted()).toEqual([...Array.from({ length: 99 }, () => 'duplicate'), 'settled']);
  });
});

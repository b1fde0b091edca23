import { listChildPayments, listEvents } from '@vpn-api/db';
import { describe, expect, it } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import type { Delivery } from '../../src/pay/provider.ts';
import { engines } from '../harness.ts';
import {
  adminToken,
  CALLED_PROVIDERS,
  createPayment,
  type Payment,
  pass,
  paymentRow,
  periodsOf,
  type Shop,
  send,
  startShop,
} from './provider-shop.ts';

const FIVE_MINUTES = 300;
const DAY = 86_400;
const PROXY = { 'x-forwarded-for': '185.71.76.1' };

async function deliver({ app }: Shop, provider: string, deliveries: readonly Delivery[]) {
  const headers = provider === 'yookassa' ? PROXY : {};
  const results = [];
  for (const delivery of deliveries) results.push((await send(app, provider, delivery, headers))[1]);
  return results;
}

async function statusOf(shop: Shop, payment: Payment): Promise<string> {
  return (await paymentRow(shop, payment)).status;
}

async function hints({ app }: Shop) {
  const events = await listEvents(app.store);
  return events.filter(({ is_hint }) => is_hint).map(({ outcome, reason }) => [outcome, reason]);
}

const behindProxy = { TRUSTED_PROXIES: '127.0.0.1' };

describe.each(engines)('asking providers on %s', (engine) => {
  it.each(CALLED_PROVIDERS)('settles a payment at %s that nobody told of', async (side, name, currency) => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, name, currency);
    shop[side].pay(payment.reference);
    await pass(shop, FIVE_MINUTES - 2);
    expect(await statusOf(shop, payment)).toBe('pending');
    await pass(shop, 2);
    expect(await statusOf(shop, payment)).toBe('completed');
    expect(await periodsOf(shop)).toEqual(['running']);
    expect(await runDoctor(shop.app.store, { now: shop.clock.now() })).toEqual([]);
  });

  it.each(CALLED_PROVIDERS)('goes on until %s answers', async (side, name, currency) => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, name, currency);
    shop[side].pay(payment.reference);
    for (const fault of ['drop', 'page', 'busy', 'refuse', 'fail_after'] as const) shop[side].fail(fault, 'GET');
    await pass(shop, FIVE_MINUTES);
    expect(await statusOf(shop, payment)).toBe('pending');
    for (let n = 0; n < 6; n += 1) await pass(shop, 600);
    expect(await statusOf(shop, payment)).toBe('completed');
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it.each(CALLED_PROVIDERS)(
    'says within seconds what %s knows when the customer looks',
    async (side, name, currency) => {
      await using shop = await startShop(engine);
      const payment = await createPayment(shop, name, currency);
      shop[side].pay(payment.reference);
      await pass(shop, 30);
      await shop.app.rest('GET', `/payments/status/${payment.id}`, { token: shop.token });
      await pass(shop, 2);
      expect(await statusOf(shop, payment)).toBe('completed');
    },
  );

  it('grants what a notice announced only after reading it back', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const notices = shop.yookassa.pay(payment.reference);
    shop.yookassa.fail('drop', 'GET');
    expect(await deliver(shop, 'yookassa', notices)).toEqual(['parked']);
    await shop.app.settled();
    expect(await statusOf(shop, payment)).toBe('pending');
    await pass(shop, 10);
    expect(await statusOf(shop, payment)).toBe('completed');
    expect(await hints(shop)).toEqual([['settled', 'read_back']]);
    expect(await deliver(shop, 'yookassa', notices)).toEqual(['duplicate']);
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it('does not put off what a notice announced because something else was settled meanwhile', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    const completed = shop.stripe.pay(payment.reference);
    const [, refunded] = shop.stripe.refund?.(payment.reference, 100) ?? [];
    shop.stripe.fail('drop', 'GET');
    expect(await deliver(shop, 'stripe', refunded ? [refunded] : [])).toEqual(['parked']);
    await shop.app.settled();
    expect(await deliver(shop, 'stripe', completed)).toEqual(['settled']);
    await pass(shop, 10);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'partially_refunded', refunded_minor: 100 });
  });

  it('is not fooled by a notice of money that is not there, and believes its repeat when it is', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const object = { id: payment.provider_payment_id ?? '', status: 'succeeded', paid: true };
    const forged = [shop.yookassa.notify('payment.succeeded', object)];
    expect(await deliver(shop, 'yookassa', forged)).toEqual(['parked']);
    for (let n = 0; n < 20; n += 1) await pass(shop, 60);
    expect(await statusOf(shop, payment)).toBe('pending');
    expect(await periodsOf(shop)).toEqual([]);
    expect(await hints(shop)).toEqual([['ignored', 'not_confirmed']]);
    shop.yookassa.pay(payment.reference);
    expect(await deliver(shop, 'yookassa', forged)).toEqual(['parked']);
    await shop.app.settled();
    expect(await statusOf(shop, payment)).toBe('completed');
  });

  it('asks again about a refund that was told of before the provider lists it', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    await deliver(shop, 'yookassa', shop.yookassa.pay(payment.reference));
    await shop.app.settled();
    const refund = { id: 'not-listed-yet', payment_id: payment.provider_payment_id, status: 'succeeded' };
    expect(await deliver(shop, 'yookassa', [shop.yookassa.notify('refund.succeeded', refund)])).toEqual(['parked']);
    await shop.app.settled();
    shop.yookassa.refund?.(payment.reference, 10_000);
    await pass(shop, 10);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'partially_refunded', refunded_minor: 10_000 });
  });

  it('follows up the repeat of a notice that it once gave up on', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    await deliver(shop, 'yookassa', shop.yookassa.pay(payment.reference));
    await shop.app.settled();
    const refund = { id: 'not-listed-yet', payment_id: payment.provider_payment_id, status: 'succeeded' };
    const notice = [shop.yookassa.notify('refund.succeeded', refund)];
    await deliver(shop, 'yookassa', notice);
    for (let n = 0; n < 20; n += 1) await pass(shop, 60);
    expect(await hints(shop)).toContainEqual(['ignored', 'not_confirmed']);
    shop.yookassa.refund?.(payment.reference, 10_000);
    expect(await deliver(shop, 'yookassa', notice)).toEqual(['parked']);
    await shop.app.settled();
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'partially_refunded', refunded_minor: 10_000 });
  });

  it('does not grant what was paid with another amount', async () => {
    await using shop = await startShop(engine, behindProxy);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    shop.yookassa.change(payment.reference, { amount: { value: '1.00', currency: 'RUB' } });
    await deliver(shop, 'yookassa', shop.yookassa.pay(payment.reference));
    await shop.app.settled();
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'needs_review', review_reason: 'amount_mismatch' });
    expect(await periodsOf(shop)).toEqual([]);
  });

  it('suspends for a dispute and gives back what was won, whose payment only the charge names', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    await deliver(shop, 'stripe', shop.stripe.pay(payment.reference));
    expect(await deliver(shop, 'stripe', shop.stripe.dispute(payment.reference, 'needs_response'))).toEqual(['parked']);
    await pass(shop, 1);
    expect((await paymentRow(shop, payment)).disputed_at).not.toBeNull();
    await deliver(shop, 'stripe', shop.stripe.dispute(payment.reference, 'won'));
    await pass(shop, 1);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'completed', disputed_at: null });
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it('takes back what a lost dispute took, although nobody told of it', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    await deliver(shop, 'stripe', shop.stripe.pay(payment.reference));
    shop.stripe.dispute(payment.reference, 'lost');
    await pass(shop, DAY);
    expect(await periodsOf(shop)).toEqual(['revoked']);
    expect(await runDoctor(shop.app.store, { now: shop.clock.now() })).toEqual([]);
  });

  it.each([
    ['stripe', 'stripe', 'USD', 999],
    ['yookassa', 'yookassa', 'RUB', 49_900],
    ['telegram', 'telegram_stars', 'XTR', 250],
  ] as const)('learns of a refund made by hand at %s within a day', async (side, name, currency, minor) => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, name, currency);
    shop[side].pay(payment.reference);
    await pass(shop, FIVE_MINUTES);
    expect(await periodsOf(shop)).toEqual(['running']);
    shop[side].refund?.(payment.reference, minor);
    await pass(shop, DAY);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'refunded', refunded_minor: minor });
    expect(await periodsOf(shop)).toEqual(['revoked']);
  });

  it('leaves a failed payment alone, and honours money that comes late', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    shop.stripe.payLater(payment.reference);
    await pass(shop, FIVE_MINUTES);
    expect(await statusOf(shop, payment)).toBe('pending');
    const failed = shop.stripe.decideLater(payment.reference, 'failed');
    await deliver(shop, 'stripe', failed);
    expect(await statusOf(shop, payment)).toBe('failed');
    await deliver(shop, 'stripe', shop.stripe.decideLater(payment.reference, 'paid'));
    expect(await statusOf(shop, payment)).toBe('completed');
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it('finds money that comes late to a payment that had failed, although nobody told of either', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'stripe', 'USD');
    shop.stripe.payLater(payment.reference);
    shop.stripe.decideLater(payment.reference, 'failed');
    await pass(shop, FIVE_MINUTES);
    expect(await statusOf(shop, payment)).toBe('failed');
    await pass(shop, 3 * DAY);
    shop.stripe.decideLater(payment.reference, 'paid');
    await pass(shop, DAY);
    expect(await statusOf(shop, payment)).toBe('completed');
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it('asks at once about a payment that its customer wants again, and opens another when it is over', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    await pass(shop, FIVE_MINUTES);
    shop.yookassa.expire?.(payment.reference);
    expect((await createPayment(shop, 'yookassa', 'RUB')).id).toBe(payment.id);
    await pass(shop, 2);
    expect(await statusOf(shop, payment)).toBe('failed');
    const next = await createPayment(shop, 'yookassa', 'RUB');
    expect([next.id === payment.id, next.status]).toEqual([false, 'pending']);
  });

  it('waits for a provider whose variables are gone, and for no other', async () => {
    await using shop = await startShop(engine);
    const open = await createPayment(shop, 'stripe', 'USD');
    const other = await createPayment(shop, 'crypto_pay', 'USDT');
    shop.cryptoPay.pay(other.reference);
    await shop.stripe.close();
    await pass(shop, FIVE_MINUTES);
    expect(await statusOf(shop, other)).toBe('completed');
    expect(await statusOf(shop, open)).toBe('pending');
  });
});

describe.each(engines)('Telegram Stars on %s', (engine) => {
  it('are asked about before they are paid, and refused once they are', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    expect(payment.checkout).toMatchObject({ type: 'telegram_invoice', payload: payment.reference });
    const ask = (changes = {}) => deliver(shop, 'telegram_stars', [shop.telegram.ask(payment.reference, changes)]);
    expect(await ask()).toEqual(['ignored']);
    await ask({ total_amount: 249 });
    await ask({ invoice_payload: 'of another shop' });
    await deliver(shop, 'telegram_stars', shop.telegram.pay(payment.reference));
    await shop.app.settled();
    expect(await statusOf(shop, payment)).toBe('completed');
    await ask();
    expect(shop.telegram.answers.map(({ ok }) => ok)).toEqual([true, false, false, false]);
    for (const { ok, error_message: told } of shop.telegram.answers) expect(ok || told?.length).toBeTruthy();
  });

  it('of a question that Telegram lost are asked for again', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    const question = shop.telegram.ask(payment.reference);
    shop.telegram.fail('busy', 'POST');
    expect(await deliver(shop, 'telegram_stars', [question])).toEqual(['ignored']);
    expect(shop.telegram.answers).toHaveLength(1);
    const later = shop.telegram.ask(payment.reference);
    for (let n = 0; n < 2; n += 1) shop.telegram.fail('fail_before', 'POST');
    expect((await send(shop.app, 'telegram_stars', later))[0]).toBe(503);
    expect(await deliver(shop, 'telegram_stars', [later])).toEqual(['ignored']);
    expect(shop.telegram.answers).toHaveLength(2);
  });

  it('count once however they are told, and each renewal is a payment of its own', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    const first = shop.telegram.pay(payment.reference);
    for (let n = 0; n < 3; n += 1) await deliver(shop, 'telegram_stars', first);
    await shop.app.settled();
    await pass(shop, 30 * DAY - 60);
    await deliver(shop, 'telegram_stars', shop.telegram.renew(payment.reference));
    await shop.app.settled();
    const children = await listChildPayments(shop.app.store, payment.id);
    expect(children).toMatchObject([{ status: 'completed', amount_minor: 250, currency: 'XTR' }]);
    expect(await periodsOf(shop)).toEqual(['running', 'running']);
    expect(await runDoctor(shop.app.store, { now: shop.clock.now() })).toEqual([]);
  });

  it('of every renewal are found month after month, although nobody tells of any', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    shop.telegram.pay(payment.reference);
    await pass(shop, FIVE_MINUTES);
    for (let month = 1; month <= 3; month += 1) {
      for (let day = 0; day < 30; day += 1) await pass(shop, DAY);
      shop.telegram.renew(payment.reference);
    }
    await pass(shop, DAY);
    const children = await listChildPayments(shop.app.store, payment.id);
    expect(children.map(({ status }) => status)).toEqual(['completed', 'completed', 'completed']);
    expect(await periodsOf(shop)).toHaveLength(4);
  });

  it('that a bot took by an invoice of its own wait for a person, with the payment that names their charge', async () => {
    await using shop = await startShop(engine);
    shop.telegram.invoice('order-17', 250);
    const [told] = shop.telegram.pay('order-17');
    const { message } = JSON.parse(told?.raw ?? '{}');
    const { telegram_payment_charge_id: charge } = message.successful_payment;
    const body = { tariff_id: shop.tariffId, provider: 'telegram_stars', currency: 'XTR', user_id: shop.userId };
    const named = { body: { ...body, provider_payment_id: charge }, token: await adminToken(shop) };
    const made = await shop.app.rest<Payment>('POST', '/payments', named);
    expect(made.status, made.text).toBe(200);
    await pass(shop, FIVE_MINUTES);
    expect(await statusOf(shop, made.body)).toBe('pending');
    const [event] = await listEvents(shop.app.store, { outcome: 'held' });
    expect(event).toMatchObject({ reason: 'identifiers_disagree', provider_payment_id: charge, amount_minor: 250 });
    const attach = { body: { payment_id: made.body.id }, token: await adminToken(shop) };
    await shop.app.rest('POST', `/payments/events/${event?.id}/attach`, attach);
    expect(await statusOf(shop, made.body)).toBe('completed');
    expect(await periodsOf(shop)).toEqual(['running']);
  });

  it('are not granted by somebody who only knows the secret', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    const paid = {
      ...{ currency: 'XTR', total_amount: 250, invoice_payload: payment.reference },
      telegram_payment_charge_id: 'stx_invented',
    };
    const message = { message_id: 1, from: { id: 1 }, successful_payment: paid };
    expect(await deliver(shop, 'telegram_stars', [shop.telegram.deliver({ message })])).toEqual(['parked']);
    for (let n = 0; n < 12; n += 1) await pass(shop, 60);
    expect(await statusOf(shop, payment)).toBe('pending');
    expect(await periodsOf(shop)).toEqual([]);
  });

  it('leave no trace of messages that are no payments', async () => {
    await using shop = await startShop(engine);
    const chat = shop.telegram.deliver({ message: { message_id: 5, text: 'hello', from: { id: 1 } } });
    expect(await deliver(shop, 'telegram_stars', [chat])).toEqual(['ignored']);
    expect(await listEvents(shop.app.store)).toEqual([]);
    const wrong = { ...chat, headers: { 'x-telegram-bot-api-secret-token': 'guess' } };
    expect((await send(shop.app, 'telegram_stars', wrong))[0]).toBe(401);
    expect((await shop.app.rest('GET', '/events', { token: await adminToken(shop) })).status).toBe(200);
  });
});

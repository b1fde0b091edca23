import { randomUUID } from 'node:crypto';
import { listRefunds, type Store } from '@vpn-api/db';
import { describe, expect, it } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { refundPayment } from '../../src/ops/refund-payment.ts';
import { engines } from '../harness.ts';
import {
  adminToken,
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
const REASON = 'the customer changed his mind';

const SIDES = [
  ['stripe', 'stripe', 'USD', 999],
  ['yookassa', 'yookassa', 'RUB', 49_900],
  ['telegram', 'telegram_stars', 'XTR', 250],
] as const;

/** A payment that came in, as far as the provider is concerned and as far as we are. */
async function paid(
  shop: Shop,
  side: 'stripe' | 'yookassa' | 'telegram' | 'cryptoPay',
  name: string,
  currency: string,
) {
  const payment = await createPayment(shop, name, currency);
  shop[side].pay(payment.reference);
  await pass(shop, FIVE_MINUTES);
  expect(await periodsOf(shop)).toEqual(['running']);
  return payment;
}

interface RefundBody {
  readonly amount?: string;
  readonly external?: boolean;
}

async function refund(shop: Shop, { id }: Payment, body: RefundBody = {}, key: string = randomUUID()) {
  const options = { token: await adminToken(shop), body: { reason: REASON, ...body } };
  const headers = { 'idempotency-key': key };
  return shop.app.rest<{ status: string; refunded_amount: string; code?: string }>('POST', `/payments/${id}/refund`, {
    ...options,
    headers,
  });
}

async function refundRows({ app }: Shop, { id }: Payment) {
  return (await listRefunds(app.store, id)).map(({ status, amount_minor }) => [status, amount_minor]);
}

async function expectSound({ app, clock }: Shop): Promise<void> {
  expect(await runDoctor(app.store, { now: clock.now() })).toEqual([]);
}

/** As a process that is killed after its first commit: whatever comes next does not happen. */
function diesAfterFirstTransaction(store: Store): Store {
  let transactions = 0;
  return new Proxy(store, {
    get: (target, property) => {
      const value: unknown = Reflect.get(target, property, target);
      if (property === 'transaction' && ++transactions > 1) throw new Error('killed');
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe.each(engines)('refunds on %s', (engine) => {
  it.each(SIDES)('at %s pay back, and end what was paid for', async (side, name, currency, minor) => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, side, name, currency);
    const key = randomUUID();
    const answer = await refund(shop, payment, {}, key);
    expect([answer.status, answer.body.status], answer.text).toEqual([200, 'refunded']);
    expect((await refund(shop, payment, {}, key)).text).toBe(answer.text);
    expect(shop[side].refunds?.(payment.reference)).toHaveLength(1);
    expect(await refundRows(shop, payment)).toEqual([['succeeded', minor]]);
    expect(await periodsOf(shop)).toEqual(['revoked']);
    // Its own notice and the daily reading tell of the same refund again.
    await pass(shop, DAY);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'refunded', refunded_minor: minor });
    expect((await refund(shop, payment)).body.code).toBe('nothing_to_refund');
    await expectSound(shop);
  });

  it.each(SIDES.slice(0, 2))('in part at %s leave what was not paid back', async (side, name, currency, minor) => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, side, name, currency);
    expect((await refund(shop, payment, { amount: '1.00' })).body.status).toBe('partially_refunded');
    expect((await refund(shop, payment, { amount: String(minor) })).status).toBe(400);
    expect(await periodsOf(shop)).toEqual(['running']);
    expect((await refund(shop, payment)).body.status).toBe('refunded');
    expect(shop[side].refunds?.(payment.reference)).toHaveLength(2);
    expect(await periodsOf(shop)).toEqual(['revoked']);
    await pass(shop, DAY);
    await expectSound(shop);
  });

  it.each(
    SIDES.flatMap((side) =>
      (['drop', 'fail_after', 'page', 'fail_before', 'busy'] as const).map((f) => [f, ...side] as const),
    ),
  )('that nobody heard the end of (%s at %s) are asked for again, and made once', async (fault, side, ...rest) => {
    const [name, currency, minor] = rest;
    await using shop = await startShop(engine);
    const payment = await paid(shop, side, name, currency);
    shop[side].fail(fault, 'POST');
    const answer = await refund(shop, payment);
    expect([answer.status, answer.body.status], answer.text).toEqual([200, 'completed']);
    expect(await refundRows(shop, payment)).toEqual([['pending', minor]]);
    for (let n = 0; n < 8; n += 1) await pass(shop, 60);
    expect(await refundRows(shop, payment)).toEqual([['succeeded', minor]]);
    expect(shop[side].refunds?.(payment.reference)).toHaveLength(1);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'refunded', refunded_minor: minor });
    expect(await periodsOf(shop)).toEqual(['revoked']);
    await expectSound(shop);
  });

  it.each(SIDES.slice(0, 2))('that %s works on count when they are done', async (side, name, currency, minor) => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, side, name, currency);
    shop[side as 'stripe'].holdRefunds();
    expect((await refund(shop, payment)).body.status).toBe('completed');
    await pass(shop, 600);
    expect(await periodsOf(shop)).toEqual(['running']);
    shop[side as 'stripe'].finishRefunds('succeeded');
    await pass(shop, 600);
    expect(await refundRows(shop, payment)).toEqual([['succeeded', minor]]);
    expect(await periodsOf(shop)).toEqual(['revoked']);
    expect(shop[side].refunds?.(payment.reference)).toHaveLength(1);
  });

  it('that a provider gives up are failed, and can be asked for again', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'stripe', 'stripe', 'USD');
    shop.stripe.fail('refuse', 'POST');
    const key = randomUUID();
    const refused = await refund(shop, payment, {}, key);
    expect([refused.status, refused.body.code]).toEqual([502, 'provider_refused']);
    // Repeated with its key it is the same refund, which was refused.
    const again = await refund(shop, payment, {}, key);
    expect([again.status, again.body.code]).toEqual([502, 'provider_refused']);
    expect(await refundRows(shop, payment)).toEqual([['failed', 999]]);
    expect(await periodsOf(shop)).toEqual(['running']);
    expect((await refund(shop, payment)).body.status).toBe('refunded');
    expect(await refundRows(shop, payment)).toEqual([
      ['failed', 999],
      ['succeeded', 999],
    ]);
    await expectSound(shop);
  });

  it('told by the provider before its own answer was heard count once', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'stripe', 'stripe', 'USD');
    shop.stripe.holdRefunds();
    shop.stripe.fail('drop', 'POST');
    await refund(shop, payment);
    for (const delivery of shop.stripe.finishRefunds('succeeded')) await send(shop.app, 'stripe', delivery);
    await pass(shop, 1);
    for (let n = 0; n < 8; n += 1) await pass(shop, 60);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'refunded', refunded_minor: 999 });
    const done = (await refundRows(shop, payment)).filter(([status]) => status === 'succeeded');
    expect(done).toEqual([['succeeded', 999]]);
    expect(shop.stripe.refunds?.(payment.reference)).toHaveLength(1);
    await expectSound(shop);
  });

  it('of equal amounts, one made at the provider and one here, both count, though the news of one took the row of the other', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'stripe', 'stripe', 'USD');
    shop.stripe.fail('drop', 'POST');
    await refund(shop, payment, { amount: '2.00' });
    for (const delivery of shop.stripe.refund?.(payment.reference, 200) ?? []) await send(shop.app, 'stripe', delivery);
    await pass(shop, 1);
    for (let n = 0; n < 8; n += 1) await pass(shop, 60);
    expect(shop.stripe.refunds?.(payment.reference)).toHaveLength(2);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'partially_refunded', refunded_minor: 400 });
    await pass(shop, DAY);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'partially_refunded', refunded_minor: 400 });
    await expectSound(shop);
  });

  it('asked for by ten admins at once are made once', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'stripe', 'stripe', 'USD');
    const answers = await Promise.all(Array.from({ length: 10 }, () => refund(shop, payment)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, ...Array.from({ length: 9 }, () => 409)]);
    expect(shop.stripe.refunds?.(payment.reference)).toHaveLength(1);
    await expectSound(shop);
  });

  it('cut short between the provider and the record are recorded later', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'stripe', 'stripe', 'USD');
    const { services } = shop.app;
    const dying = diesAfterFirstTransaction(services.store);
    const source = { actor: 'user:1', ip: '192.0.2.1', request_id: 'request-1' };
    const asked = refundPayment(
      { ...services, store: dying },
      { paymentId: payment.id, reason: REASON, isExternal: false },
      { source, beforeCommit: async () => {} },
    );
    await expect(asked).rejects.toThrow('killed');
    expect(await refundRows(shop, payment)).toEqual([['pending', 999]]);
    expect(shop.stripe.refunds?.(payment.reference)).toHaveLength(1);
    await pass(shop, 61);
    expect(await refundRows(shop, payment)).toEqual([['succeeded', 999]]);
    expect(shop.stripe.refunds?.(payment.reference)).toHaveLength(1);
    await expectSound(shop);
  });

  it('done outside are recorded, where the provider cannot pay back and where it can', async () => {
    await using shop = await startShop(engine);
    const payment = await paid(shop, 'cryptoPay', 'crypto_pay', 'USDT');
    expect((await refund(shop, payment)).body.code).toBe('refund_not_supported');
    expect((await refund(shop, payment, { external: true, amount: '1.00' })).body.status).toBe('partially_refunded');
    expect((await refund(shop, payment, { external: true })).body.status).toBe('refunded');
    expect(await periodsOf(shop)).toEqual(['revoked']);
    await expectSound(shop);
  });

  it('of money that was not what was asked pay back what came, as a whole', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'telegram_stars', 'XTR');
    shop.telegram.invoice(payment.reference, 300);
    shop.telegram.pay(payment.reference);
    await pass(shop, FIVE_MINUTES);
    expect(await paymentRow(shop, payment)).toMatchObject({ status: 'needs_review', review_reason: 'amount_mismatch' });
    const answer = await refund(shop, payment);
    expect([answer.status, answer.body.status], answer.text).toEqual([200, 'refunded']);
    expect(await refundRows(shop, payment)).toEqual([['succeeded', 300]]);
    expect(shop.telegram.refunds?.(payment.reference)).toHaveLength(1);
    await expectSound(shop);
  });

  it('of a payment that is not paid, or in part where only the whole goes back, are refused', async () => {
    await using shop = await startShop(engine);
    const open = await createPayment(shop, 'stripe', 'USD');
    expect((await refund(shop, open)).status).toBe(409);
    const stars = await paid(shop, 'telegram', 'telegram_stars', 'XTR');
    expect((await refund(shop, stars, { amount: '100' })).body.code).toBe('provider_refused');
    expect(shop.telegram.refunds?.(stars.reference)).toEqual([]);
    expect(await periodsOf(shop)).toEqual(['running']);
    expect(shop.stripe.requests.filter(({ path }) => path === '/v1/refunds')).toEqual([]);
  });
});

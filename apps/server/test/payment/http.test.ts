import { randomUUID } from 'node:crypto';
import { findPayment, listPeriodsForUser } from '@vpn-api/db';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { epochMs } from '../../src/domain/instant.ts';
import { type App, engines, type Person, SHOP_SECRET, signStandard, startApp } from '../harness.ts';
import { chargeOf, paid } from './shop.ts';

interface Payment {
  readonly id: number;
  readonly reference: string;
  readonly amount: string;
  readonly currency: string;
  readonly status: string;
}

describe.each(engines)('selling over HTTP on %s', (engine) => {
  let app: App;
  let admin: Person;
  beforeAll(async () => {
    app = await startApp({ engine });
    admin = await app.admin();
  });
  afterAll(() => app[Symbol.asyncDispose]());

  async function tariff(input: Record<string, unknown> = {}): Promise<number> {
    const body = { name: randomUUID(), price: '9.99', ...input };
    const made = await app.rest<{ id: number }>('POST', '/tariffs/', { token: admin.token, body });
    expect(made.status).toBe(200);
    return made.body.id;
  }

  async function order() {
    const person = await app.register(`${randomUUID()}@example.com`);
    const body = { tariff_id: await tariff(), provider: 'standard' };
    const made = await app.rest<Payment>('POST', '/payments/create', { token: person.token, body });
    expect(made.status).toBe(200);
    return { person, payment: made.body };
  }

  test('a customer pays and has a subscription', async () => {
    const { person, payment } = await order();
    expect(await app.webhook(paid(payment))).toMatchObject({
      status: 200,
      body: { received: true, result: 'settled' },
    });
    const { token } = person;
    expect(await app.rest('GET', `/payments/status/${payment.id}`, { token })).toMatchObject({
      status: 200,
      body: { status: 'completed', subscription: { status: 'active', days_remaining: 30 } },
    });
    expect(await app.rest('GET', '/auth/me/subscription', { token })).toMatchObject({ body: { price: '9.99' } });
  });

  test('200 deliveries of one webhook at once make one period, and all answers are 200', async () => {
    const { person, payment } = await order();
    const id = `msg_${randomUUID()}`;
    const answers = await Promise.all(Array.from({ length: 200 }, () => app.webhook(paid(payment), { id })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(answers.filter(({ body }) => body.result === 'settled')).toHaveLength(1);
    expect(await listPeriodsForUser(app.store, person.id)).toHaveLength(1);
  });

  test('a webhook that came before its payment is settled by itself once the payment is made', async () => {
    const { person } = await order();
    const charge = randomUUID();
    const data = { provider_payment_id: charge, amount: '9.99', currency: 'USD' };
    expect(await app.webhook({ type: 'payment.completed', data })).toMatchObject({ body: { result: 'parked' } });
    const bot = await app.apiKey(['payments:write']);
    const body = { user_id: person.id, tariff_id: await tariff(), provider: 'standard', provider_payment_id: charge };
    const made = await app.rest<Payment>('POST', '/payments', { token: bot, body });
    await app.settled();
    expect(await findPayment(app.store, made.body.id)).toMatchObject({ status: 'completed' });
  });

  test('the webhook without a name is that of the standard sender; others have their own secrets', async () => {
    const { payment } = await order();
    const body = JSON.stringify(paid(payment));
    const unsigned = await app.rest('POST', '/payments/webhook', { body });
    expect(unsigned).toMatchObject({ status: 401, body: { code: 'invalid_signature' } });
    expect(await app.webhook(paid(payment), { provider: 'shop2' })).toMatchObject({ status: 401 });
    const foreign = await app.webhook(paid(payment), { provider: 'shop2', secret: SHOP_SECRET });
    expect(foreign).toMatchObject({ status: 200, body: { result: 'held' } });
    expect(await app.webhook(paid(payment), { provider: 'nobody' })).toMatchObject({ status: 404 });
    expect(await app.webhook(paid(payment), { provider: 'manual' })).toMatchObject({ status: 404 });
    expect(await findPayment(app.store, payment.id)).toMatchObject({ status: 'pending' });
  });

  test('a signed body that is no JSON, or has a NUL, is answered and kept for a person', async () => {
    for (const body of ['nonsense', 'a\0b', '{"type":']) {
      expect(await app.webhook(body)).toMatchObject({ status: 200, body: { result: 'held' } });
    }
  });

  test('a webhook may come over tRPC, with the same checks', async () => {
    const { payment } = await order();
    const raw_body = JSON.stringify(paid(payment));
    const refused = await app.trpcMutate('payment.webhook', { headers: {}, raw_body });
    expect(refused).toMatchObject({ status: 401 });
    const headers = signStandard(raw_body, { seconds: Math.floor(epochMs(app.clock.now()) / 1000) });
    const taken = await app.trpcMutate('payment.webhook', { provider: 'standard', headers, raw_body });
    expect(taken).toMatchObject({ status: 200, body: { result: { data: { received: true, result: 'settled' } } } });
  });

  test('D33: editing and deleting a payment is refused on every spelling of the path', async () => {
    const { person, payment } = await order();
    for (const token of [person.token, admin.token, undefined]) {
      for (const path of [`/payments/${payment.id}`, `/payments/${payment.id}/`]) {
        const put = await app.rest('PUT', path, { token, body: { status: 'completed', amount: '0.01' } });
        expect(put).toMatchObject({ status: 403, body: { detail: 'Not allowed' } });
        const removed = await app.rest('DELETE', path, { token });
        expect(removed).toMatchObject({ status: 403, body: { detail: 'Not allowed' } });
      }
    }
    expect(await findPayment(app.store, payment.id)).toMatchObject({ status: 'pending', amount_minor: 999 });
  });

  test('the mobile app opens a payment by its amount, with the keys it knows', async () => {
    const person = await app.register(`${randomUUID()}@example.com`);
    const tariffId = await tariff({ price: '31.07' });
    const body = { amount: '31.07', currency: 'USD', status: 'completed', provider: null, user_id: person.id };
    const made = await app.rest('POST', '/payments/', { token: person.token, body });
    expect(made).toMatchObject({ status: 200, body: { tariff_id: tariffId, status: 'pending', amount: '31.07' } });
  });

  test('an Idempotency-Key is replayed, and says so', async () => {
    const headers = { 'idempotency-key': randomUUID() };
    const body = { name: randomUUID(), price: '5' };
    const first = await app.rest('POST', '/tariffs', { token: admin.token, body, headers });
    const second = await app.rest('POST', '/tariffs', { token: admin.token, body, headers });
    expect(second).toMatchObject({ status: 200, body: first.body });
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    const other = await app.rest('POST', '/tariffs', { token: admin.token, body: { ...body, price: '6' }, headers });
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
  });

  test('refusals have the status and the words that clients rely on', async () => {
    const { person } = await order();
    const { token } = person;
    const expected: [string, string, object, number, string][] = [
      ['POST', '/tariffs', { token, body: { name: 'x', price: '1' } }, 403, 'Admin privileges required'],
      ['GET', '/tariffs/999999', {}, 404, 'Tariff not found'],
      ['GET', '/payments/999999', { token }, 404, 'Payment not found'],
      ['GET', `/payments?user_id=${admin.id}`, { token }, 403, 'Not allowed'],
      [
        'POST',
        '/subscriptions/grant',
        { token: admin.token, body: { user_id: 999999, tariff_id: 1 } },
        404,
        'User not found',
      ],
    ];
    for (const [method, path, options, status, detail] of expected) {
      expect(await app.rest(method, path, options)).toMatchObject({ status, body: { detail } });
    }
    expect((await app.rest('GET', '/payments?limit=-1', { token })).status).toBe(400);
  });

  test('D36: a charge that was paid for one user pays for nobody else', async () => {
    const [first, second] = [await order(), await order()];
    await app.webhook(paid(first.payment));
    const stolen = paid(second.payment, { provider_payment_id: chargeOf(first.payment) });
    expect(await app.webhook(stolen)).toMatchObject({ status: 200, body: { result: 'held' } });
    expect(await listPeriodsForUser(app.store, second.person.id)).toEqual([]);
  });
});

import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { addSeconds, toInstant } from '../../src/domain/instant.ts';
import type { ConformanceSubject, Negative, Vector } from '../../src/pay/conformance.ts';
import type { CheckoutRequest, Delivery, Verdict } from '../../src/pay/provider.ts';
import { telegramStarsProvider } from '../../src/pay/telegram-stars.ts';
import { describeConformance } from './describe-conformance.ts';
import { startTelegram, TELEGRAM_PAYER, type TelegramFake } from './fakes/telegram.ts';

const TOKEN = '12345:AAtestTokenOfTheBot';
const SECRET = 'Secret_of-the-webhook_42';
const NOW = toInstant(Date.UTC(2026, 0, 2, 3, 4, 5));
const names = { botToken: TOKEN, webhookSecret: SECRET };
const offline = telegramStarsProvider({ apiUrl: 'http://127.0.0.1:9', ...names });

const HEADER = 'x-telegram-bot-api-secret-token';
const from = { id: 7, is_bot: false, first_name: 'A' };

function delivery(body: unknown, headers: Delivery['headers'] = { [HEADER]: SECRET }): Delivery {
  const raw = typeof body === 'string' ? body : JSON.stringify(body);
  return { raw, headers, remoteAddress: '149.154.167.220' };
}

const message = (fields: Record<string, unknown>) =>
  delivery({ update_id: 1, message: { message_id: 2, from, ...fields } });

const paid = {
  ...{ currency: 'XTR', total_amount: 250, invoice_payload: 'pay_1' },
  ...{ telegram_payment_charge_id: 'stxA', provider_payment_charge_id: 'p' },
};
const question = { id: '99', from, currency: 'XTR', total_amount: 250, invoice_payload: 'pay_1' };
const ask = (changes: Record<string, unknown> = {}) =>
  delivery({ update_id: 1, pre_checkout_query: { ...question, ...changes } });

const vector = (name: string, given: Delivery, verdict: Record<string, unknown>): Vector => ({
  name,
  delivery: given,
  verdict: verdict as unknown as Verdict,
});
const held = (given: Delivery, type: string, malformed: string) => ({
  ...{ kind: 'event', dedupeKey: `sha256:${createHash('sha256').update(given.raw).digest('hex')}` },
  ...{ type, event: undefined, malformed },
});
const asked = {
  ...{ kind: 'question', questionId: '99', reference: 'pay_1' },
  ...{ amountMinor: 250, currency: 'XTR', payerId: '7' },
};
const odd = {
  text: delivery('no JSON'),
  list: delivery('[]'),
  charge: message({ successful_payment: { ...paid, telegram_payment_charge_id: undefined } }),
  stars: ask({ total_amount: '250' }),
  negative: ask({ total_amount: -1 }),
  id: ask({ id: 99 }),
};

const vectors: readonly Vector[] = [
  vector('a payment', message({ successful_payment: paid }), {
    ...{ kind: 'hint', dedupeKey: 'successful_payment:stxA', type: 'successful_payment' },
    ...{ reference: 'pay_1', chargeId: 'stxA' },
  }),
  vector('a renewal', message({ successful_payment: { ...paid, telegram_payment_charge_id: 'stxB' } }), {
    ...{ kind: 'hint', dedupeKey: 'successful_payment:stxB', type: 'successful_payment' },
    ...{ reference: 'pay_1', chargeId: 'stxB' },
  }),
  vector('a refund', message({ refunded_payment: paid }), {
    ...{ kind: 'hint', dedupeKey: 'refunded_payment:stxA', type: 'refunded_payment' },
    ...{ reference: 'pay_1', chargeId: 'stxA', refundId: 'stxA' },
  }),
  vector('a question', ask(), asked),
  vector('a question about nothing of ours', ask({ invoice_payload: 5, currency: 7, from: null }), {
    ...asked,
    ...{ reference: '', currency: '', payerId: undefined },
  }),
  vector('a payment in another currency', message({ successful_payment: { ...paid, currency: 'EUR' } }), {
    kind: 'unrelated',
  }),
  vector('a chat message', message({ text: 'hello' }), { kind: 'unrelated' }),
  vector('a press of a button', delivery({ update_id: 1, callback_query: { id: '5', from } }), { kind: 'unrelated' }),
  vector('no JSON', odd.text, held(odd.text, 'unknown', 'the body is not a JSON object')),
  vector('a list', odd.list, held(odd.list, 'unknown', 'the body is not a JSON object')),
  vector('a payment without charge', odd.charge, held(odd.charge, 'successful_payment', 'no charge id')),
  vector('Stars as text', odd.stars, held(odd.stars, 'pre_checkout_query', 'no id or no amount')),
  vector('less than nothing', odd.negative, held(odd.negative, 'pre_checkout_query', 'no id or no amount')),
  vector('an id as number', odd.id, held(odd.id, 'pre_checkout_query', 'no id or no amount')),
];

const body = { update_id: 1, message: { message_id: 2, from, successful_payment: paid } };
const forged = (name: string, token: string | undefined, header = HEADER): Negative => ({
  name,
  delivery: delivery(body, { [header]: token }),
});

const negatives: readonly Negative[] = [
  { name: 'no header at all', delivery: delivery(body, {}) },
  forged('no secret', undefined),
  forged('an empty secret', ''),
  forged('a space', ' '),
  forged('the token of the bot', TOKEN),
  forged('another case', SECRET.toUpperCase()),
  forged('the first half', SECRET.slice(0, 12)),
  forged('all but the last letter', SECRET.slice(0, -1)),
  forged('one letter more', `${SECRET}x`),
  forged('a space behind', `${SECRET} `),
  forged('a space before', ` ${SECRET}`),
  forged('twice', `${SECRET},${SECRET}`),
  forged('twice, without comma', `${SECRET}${SECRET}`),
  forged('as bearer', `Bearer ${SECRET}`),
  forged('in quotes', `"${SECRET}"`),
  forged('its hash', createHash('sha256').update(SECRET).digest('hex')),
  forged('in base64', Buffer.from(SECRET).toString('base64')),
  forged('in percent signs', encodeURIComponent(SECRET).replaceAll('_', '%5F')),
  forged('a zero byte behind', `${SECRET}\0`),
  forged('a letter that looks the same', SECRET.replace('e', 'е')),
  forged('as authorization', SECRET, 'authorization'),
  forged('as another header', SECRET, 'x-telegram-bot-api-secret'),
  { name: 'in the body only', delivery: delivery({ ...body, secret_token: SECRET }, {}) },
];

const open: TelegramFake[] = [];
afterEach(async () => {
  for (const fake of open.splice(0)) await fake.close();
});

async function startFake(now = () => Date.parse(NOW)) {
  const fake = await startTelegram({ ...names, now });
  open.push(fake);
  const provider = telegramStarsProvider({ apiUrl: fake.url, ...names });
  if (!provider.createCheckout || !provider.fetchPayment || !provider.refund) throw new Error('an ability is missing');
  return { fake, provider: provider as Required<typeof provider> };
}

async function makeSubject(): Promise<ConformanceSubject> {
  const { fake, provider } = await startFake();
  return {
    ...{ provider, now: NOW, currency: 'XTR', vectors, negatives, remote: fake, secrets: [TOKEN, SECRET] },
    signedHeaders: [HEADER],
    refundsWhole: true,
    [Symbol.asyncDispose]: () => fake.close(),
  };
}

describeConformance(offline, makeSubject);

const signal = AbortSignal.timeout(60_000);
const invoice = (reference: string, more: Partial<CheckoutRequest> = {}): CheckoutRequest => ({
  ...{ reference, amount: '250', amountMinor: 250, currency: 'XTR', title: 'Thirty days' },
  ...{ description: null, returnUrl: null, ...more },
});
const query = (reference: string, createdAt = NOW) => ({
  ...{ reference, chargeId: null, createdAt, amountMinor: 250, currency: 'XTR' },
});

describe('an invoice link', () => {
  it('is cut to what the Bot API takes', async () => {
    const { fake, provider } = await startFake();
    const long = { title: 'T'.repeat(60), description: 'D'.repeat(400) };
    const { checkout, chargeId } = await provider.createCheckout(invoice('ref_1', long), signal);
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toEqual({
      ...{ title: 'T'.repeat(32), description: 'D'.repeat(255), payload: 'ref_1', currency: 'XTR' },
      prices: [{ label: 'T'.repeat(32), amount: 250 }],
    });
    expect(checkout).toMatchObject({ type: 'telegram_invoice', payload: 'ref_1', amount: 250, currency: 'XTR' });
    expect(chargeId).toBeNull();
  });
});

describe('a question', () => {
  it('is answered with yes, or with what the customer reads', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(invoice('ref_1'), signal);
    const ids = [fake.ask('ref_1'), fake.ask('ref_1')].map((given) => {
      const verdict = provider.verify(given, NOW);
      return verdict.kind === 'question' ? verdict.questionId : '';
    });
    await provider.answerQuestion(ids[0] ?? '', undefined, signal);
    await provider.answerQuestion(ids[1] ?? '', 'This is no longer sold', signal);
    expect(fake.answers).toEqual([
      { pre_checkout_query_id: ids[0], ok: true },
      { pre_checkout_query_id: ids[1], ok: false, error_message: 'This is no longer sold' },
    ]);
  });

  it('that is too old is refused', async () => {
    const { provider } = await startFake();
    await expect(provider.answerQuestion('q0', undefined, signal)).rejects.toMatchObject({ kind: 'refused' });
  });
});

describe('what is read back', () => {
  it('names the payer, and calls every later charge of a subscription a renewal', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(invoice('ref_1'), signal);
    for (const act of [fake.pay, fake.renew, fake.renew]) act('ref_1');
    const { events } = await provider.fetchPayment(query('ref_1'), signal);
    const payerId = String(TELEGRAM_PAYER);
    expect(events.map(({ event }) => event)).toMatchObject([
      { type: 'completed', amountMinor: 250, payerId },
      { type: 'completed', amountMinor: 250, payerId, renewal: true },
      { type: 'completed', amountMinor: 250, payerId, renewal: true },
    ]);
    expect(events[0]?.event).not.toHaveProperty('renewal');
    expect(new Set(events.map(({ event }) => event?.chargeId)).size).toBe(3);
  });

  it('does not call a second payment of one invoice a renewal', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(invoice('ref_1'), signal);
    fake.pay('ref_1');
    fake.pay('ref_1');
    const { events } = await provider.fetchPayment(query('ref_1'), signal);
    expect(events.map(({ event }) => event?.renewal)).toEqual([undefined, undefined]);
  });

  it('is found among thousands without reading them all, and later reads only what is new', async () => {
    let at = Date.parse(NOW) - 400 * 86_400_000;
    const { fake, provider } = await startFake(() => at);
    await provider.createCheckout(invoice('other'), signal);
    for (let day = 0; day < 400; day += 1, at += 86_400_000) {
      for (let n = 0; n < 7; n += 1) fake.pay('other');
      fake.withdraw(10);
    }
    await provider.createCheckout(invoice('ref_1'), signal);
    fake.pay('ref_1');
    const reads = () => fake.requests.filter(({ method }) => method === 'GET').length;
    expect((await provider.fetchPayment(query('ref_1'), signal)).events).toHaveLength(1);
    const first = reads();
    expect(first).toBeLessThan(30);
    fake.refund('ref_1', 250);
    expect((await provider.fetchPayment(query('ref_1'), signal)).events).toHaveLength(2);
    expect(reads() - first).toBe(1);
  });

  it('is the same for many who ask at once, each of another time', async () => {
    let at = Date.parse(NOW);
    const { fake, provider } = await startFake(() => at);
    const refs = Array.from({ length: 250 }, (_, n) => `ref_${n}`);
    for (const reference of refs) {
      await provider.createCheckout(invoice(reference), signal);
      fake.pay(reference);
      at += 60_000;
    }
    const times = refs.map((_, n) => addSeconds(NOW, 60 * n));
    const asked = refs.map((reference, n) => provider.fetchPayment(query(reference, times[n]), signal)).toReversed();
    for (const { events } of await Promise.all(asked)) expect(events).toHaveLength(1);
  });

  it('is not kept when reading broke off in the middle', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(invoice('ref_1'), signal);
    for (let n = 0; n < 150; n += 1) fake.pay('ref_1');
    await provider.fetchPayment(query('ref_1'), signal);
    for (let n = 0; n < 120; n += 1) fake.pay('ref_1');
    fake.fail('drop', 'GET');
    await expect(provider.fetchPayment(query('ref_1'), signal)).rejects.toMatchObject({ kind: 'unavailable' });
    const { events } = await provider.fetchPayment(query('ref_1'), signal);
    expect(new Set(events.map(({ dedupeKey }) => dedupeKey)).size).toBe(270);
    expect(events).toHaveLength(270);
  });
});

describe('a refund', () => {
  it('needs the payer, and never asks Telegram without', async () => {
    const { fake, provider } = await startFake();
    const money = { amountMinor: 250, currency: 'XTR', isWhole: true, idempotencyKey: 'k' };
    const nameless = { reference: 'ref_1', chargeId: 'stx1', payerId: null, ...money };
    await expect(provider.refund(nameless, signal)).rejects.toMatchObject({ kind: 'refused' });
    expect(fake.requests).toEqual([]);
  });

  it('that was made before counts as made', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(invoice('ref_1'), signal);
    fake.pay('ref_1');
    fake.refund('ref_1', 250);
    const [first] = (await provider.fetchPayment(query('ref_1'), signal)).events;
    const chargeId = first?.event?.chargeId ?? '';
    const money = { amountMinor: 250, currency: 'XTR', isWhole: true, idempotencyKey: 'k' };
    const request = { reference: 'ref_1', chargeId, payerId: String(TELEGRAM_PAYER), ...money };
    expect(await provider.refund(request, signal)).toEqual({ status: 'succeeded', refundId: chargeId });
    expect(fake.refunds('ref_1')).toHaveLength(1);
  });
});

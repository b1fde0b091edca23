import { createHash, createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { toInstant } from '../../src/domain/instant.ts';
import { isCurrency } from '../../src/domain/money.ts';
import type { ConformanceSubject, Negative, Vector } from '../../src/pay/conformance.ts';
import { cryptoPayProvider } from '../../src/pay/crypto-pay.ts';
import type { CheckoutRequest, Delivery, Verdict } from '../../src/pay/provider.ts';
import { describeConformance } from './describe-conformance.ts';
import { type CryptoPayFake, startCryptoPay } from './fakes/crypto-pay.ts';

const TOKEN = '12345:AAtestTokenForVectors';
const NOW = toInstant(Date.UTC(2026, 0, 2, 3, 4, 5));
const offline = cryptoPayProvider({ token: TOKEN, apiUrl: 'http://127.0.0.1:9' });

const PUBLISHED = {
  raw: '{"update_id":1,"update_type":"invoice_paid","request_date":"2026-01-02T03:04:05.000Z","payload":{"invoice_id":777,"hash":"IVabc","currency_type":"fiat","fiat":"RUB","amount":"499","paid_asset":"USDT","paid_amount":"5.43210000","fee_asset":"USDT","fee_amount":"0.162963","status":"paid","payload":"pay_1"}}',
  signature: 'c7f9c64400c5a1affcb07f6b0c004cebfccd735b3f8a8a416b034ff4a7a92c6d',
};

function delivery(raw: string, signature: string | undefined): Delivery {
  return { raw, headers: { 'crypto-pay-api-signature': signature }, remoteAddress: '127.0.0.1' };
}

const sha256 = (text: string) => createHash('sha256').update(text).digest();
const hmac = (raw: string, key: string | Buffer = sha256(TOKEN), algorithm = 'sha256') =>
  createHmac(algorithm, key).update(raw);

function signed(body: unknown): Delivery {
  const raw = typeof body === 'string' ? body : JSON.stringify(body);
  return delivery(raw, hmac(raw).digest('hex'));
}

const invoice = { invoice_id: 9, currency_type: 'fiat', fiat: 'EUR', amount: '9.99', status: 'paid', payload: 'pay_9' };

function update(changes: Record<string, unknown> = {}, update_type = 'invoice_paid'): Delivery {
  return signed({ update_id: 1, update_type, request_date: NOW, payload: { ...invoice, ...changes } });
}

const paid = { provider: 'crypto_pay', type: 'completed', reference: 'pay_9', chargeId: '9' } as const;

function vector(
  name: string,
  given: Delivery,
  dedupeKey: string,
  verdict: Partial<Verdict> = {},
  type = 'invoice_paid',
): Vector {
  return {
    name,
    delivery: given,
    verdict: { kind: 'event', dedupeKey, type, event: undefined, ...verdict } as Verdict,
  };
}

function amount(
  name: string,
  changes: Record<string, unknown>,
  read: { currency?: string; amountMinor?: number },
): Vector {
  const money = { currency: undefined, amountMinor: undefined, ...read };
  return vector(name, update(changes), '9:paid', { event: { ...paid, ...money } });
}

const usdt = { currency_type: 'crypto', asset: 'USDT', fiat: undefined };
const hashed = (given: Delivery) => `sha256:${sha256(given.raw).toString('hex')}`;
const broken = {
  list: signed('[]'),
  text: signed('no JSON'),
  id: update({ invoice_id: '9' }),
  none: signed({ update_type: 'x' }),
};

const vectors: readonly Vector[] = [
  vector('the published vector', delivery(PUBLISHED.raw, PUBLISHED.signature), '777:paid', {
    event: { ...paid, reference: 'pay_1', chargeId: '777', currency: 'RUB', amountMinor: 49_900 },
  }),
  amount('money', {}, { currency: 'EUR', amountMinor: 999 }),
  amount(
    'money paid with other coins',
    { paid_asset: 'TON', paid_amount: '0.00000001' },
    { currency: 'EUR', amountMinor: 999 },
  ),
  amount('money with zeros', { amount: '10.5000' }, { currency: 'EUR', amountMinor: 1050 }),
  amount('hundreds', { amount: '1200' }, { currency: 'EUR', amountMinor: 120_000 }),
  amount(
    'coins, padded to eight decimals',
    { ...usdt, amount: '5.43210000' },
    { currency: 'USDT', amountMinor: 5_432_100 },
  ),
  amount('coins in whole', { ...usdt, amount: '100.00000000' }, { currency: 'USDT', amountMinor: 100_000_000 }),
  amount('fractions of a millionth', { ...usdt, amount: '5.43210001' }, { currency: 'USDT' }),
  amount('an amount as number', { amount: 9.99 }, { currency: 'EUR' }),
  amount('a coin we cannot count in', { ...usdt, asset: 'TON' }, { currency: 'TON' }),
  amount('no currency', { fiat: undefined }, {}),
  vector('an invoice of another program', update({ payload: undefined }), '9:paid'),
  vector('an invoice that is not paid', update({ status: 'active' }), '9:active'),
  vector('another type', update({}, 'invoice_moved'), '9:paid', {}, 'invoice_moved'),
  vector('a list', broken.list, hashed(broken.list), { malformed: 'no invoice with an id' }, 'unknown'),
  vector('no JSON', broken.text, hashed(broken.text), { malformed: 'no invoice with an id' }, 'unknown'),
  vector('an id as text', broken.id, hashed(broken.id), { malformed: 'no invoice with an id' }),
  vector('no invoice', broken.none, hashed(broken.none), { malformed: 'no invoice with an id' }, 'x'),
];

const good = PUBLISHED.signature;
const forged = (name: string, signature: string | undefined): Negative => ({
  name,
  delivery: delivery(PUBLISHED.raw, signature),
});
const changed = (name: string, raw: string): Negative => ({ name, delivery: delivery(raw, good) });

const negatives: readonly Negative[] = [
  forged('no signature', undefined),
  forged('an empty signature', ''),
  forged('the token itself as key', '11d5172a9e6a323b4e748c2379f5b6261b146a35e995c54bf8d9ba2f924a190f'),
  forged('the hash of the token in hex as key', hmac(PUBLISHED.raw, sha256(TOKEN).toString('hex')).digest('hex')),
  forged('another token', hmac(PUBLISHED.raw, sha256(`${TOKEN}x`)).digest('hex')),
  forged('an empty token', hmac(PUBLISHED.raw, sha256('')).digest('hex')),
  forged('SHA-512', hmac(PUBLISHED.raw, undefined, 'sha512').digest('hex')),
  forged('SHA-1', hmac(PUBLISHED.raw, undefined, 'sha1').digest('hex')),
  forged('a plain hash', sha256(PUBLISHED.raw).toString('hex')),
  forged('base64', hmac(PUBLISHED.raw).digest('base64')),
  forged('upper case', good.toUpperCase()),
  forged('a prefix', `sha256=${good}`),
  forged('a shorter one', good.slice(0, -1)),
  forged('a longer one', `${good}0`),
  forged('spaces around', ` ${good} `),
  forged('two, the second right', `${'0'.repeat(64)},${good}`),
  forged('the signature of another body', hmac('{}').digest('hex')),
  changed('another payment', PUBLISHED.raw.replace('pay_1', 'pay_2')),
  changed('another amount', PUBLISHED.raw.replace('"499"', '"1"')),
  changed('the same JSON, printed otherwise', JSON.stringify(JSON.parse(PUBLISHED.raw), null, 1)),
  changed('a line feed at the end', `${PUBLISHED.raw}\n`),
  changed('another key with the same name', PUBLISHED.raw.replace('{', '{"update_id":1,')),
  changed('an empty body', ''),
];

const open: CryptoPayFake[] = [];
afterEach(async () => {
  for (const fake of open.splice(0)) await fake.close();
});

async function startFake() {
  const fake = await startCryptoPay({ token: TOKEN, now: () => Date.parse(NOW) });
  open.push(fake);
  const provider = cryptoPayProvider({ token: TOKEN, apiUrl: fake.url });
  if (!provider.createCheckout || !provider.fetchPayment) throw new Error('an ability is missing');
  return { fake, provider: provider as Required<typeof provider> };
}

async function makeSubject(): Promise<ConformanceSubject> {
  const { fake, provider } = await startFake();
  return {
    ...{ provider, now: NOW, currency: 'EUR', vectors, negatives, remote: fake, secrets: [TOKEN] },
    signedHeaders: ['crypto-pay-api-signature'],
    [Symbol.asyncDispose]: () => fake.close(),
  };
}

describeConformance(offline, makeSubject);

const signal = AbortSignal.timeout(60_000);
const request: CheckoutRequest = {
  ...{ reference: 'ref_1', amount: '4.990000', amountMinor: 4_990_000, currency: 'USDT' },
  ...{ title: 'Thirty days', description: null, returnUrl: 'https://app.example.com/x' },
};

describe('an invoice', () => {
  it('asks for coins in coins and for money in money', async () => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(request, signal);
    await provider.createCheckout(
      { ...request, reference: 'ref_2', currency: 'RUB', amount: '499.00', returnUrl: null },
      signal,
    );
    const [coins, money] = fake.requests
      .filter(({ method }) => method === 'POST')
      .map(({ body }) => JSON.parse(body) as unknown);
    expect(coins).toEqual({
      ...{ currency_type: 'crypto', asset: 'USDT', amount: '4.990000', payload: 'ref_1', description: 'Thirty days' },
      ...{
        expires_in: 86_400,
        allow_comments: false,
        paid_btn_name: 'callback',
        paid_btn_url: 'https://app.example.com/x',
      },
    });
    expect(money).toMatchObject({ currency_type: 'fiat', fiat: 'RUB', amount: '499.00' });
    expect(money).not.toHaveProperty('paid_btn_name');
  });

  it('in coins is paid with what was asked, to the millionth', async () => {
    const { fake, provider } = await startFake();
    const { chargeId } = await provider.createCheckout(request, signal);
    const [notice] = fake.pay('ref_1');
    const event = { type: 'completed', amountMinor: 4_990_000, currency: 'USDT', chargeId };
    expect(notice && offline.verify?.(notice, NOW)).toMatchObject({ event });
    const query = { reference: 'ref_1', createdAt: NOW, amountMinor: 4_990_000, currency: 'USDT' };
    for (const known of [chargeId, null]) {
      expect((await provider.fetchPayment({ ...query, chargeId: known }, signal)).events).toMatchObject([{ event }]);
    }
  });

  it('is found among many by its reference', async () => {
    const { fake, provider } = await startFake();
    fake.fail('drop', 'POST');
    await expect(provider.createCheckout(request, signal)).rejects.toMatchObject({ kind: 'unknown' });
    for (let other = 0; other < 150; other++) {
      await provider.createCheckout({ ...request, reference: `other_${other}` }, signal);
    }
    await provider.createCheckout(request, signal);
    expect(fake.checkouts('ref_1')).toBe(1);
  });

  it('is in a currency that we can count in', () => {
    expect(offline.currencies?.filter((code) => !isCurrency(code))).toEqual([]);
  });

  it('cannot be paid back through the service', () => {
    expect(offline.refund).toBeUndefined();
  });
});

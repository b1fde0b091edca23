import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { addSeconds, type Instant, toInstant } from '../../src/domain/instant.ts';
import type { ConformanceSubject } from '../../src/pay/conformance.ts';
import type { PaymentProvider, Verdict } from '../../src/pay/provider.ts';
import { standardProvider } from '../../src/pay/standard.ts';
import { describeConformance } from './describe-conformance.ts';

/** Published with the Standard Webhooks specification. */
const VECTOR = {
  secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: 1_614_265_330,
  raw: '{"test": 2432232314}',
  signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
};
const NOW = toInstant(VECTOR.timestamp * 1000);
const NEW_SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;

const provider = standardProvider('standard', [VECTOR.secret]);

const headers = {
  'webhook-id': VECTOR.id,
  'webhook-timestamp': String(VECTOR.timestamp),
  'webhook-signature': VECTOR.signature,
};

interface Attempt {
  readonly raw?: string;
  readonly headers?: Record<string, string | undefined>;
  readonly now?: Instant;
  readonly by?: PaymentProvider;
}

function verify({ now = NOW, by = provider, ...attempt }: Attempt = {}) {
  return by.verify?.(deliveryOf(attempt), now);
}

function deliveryOf({ raw = VECTOR.raw, headers: changed = {} }: Attempt) {
  return { raw, headers: { ...headers, ...changed }, remoteAddress: undefined };
}

/** A delivery signed by the reference implementation. */
function signed(body: string, id = 'msg_1', secret = VECTOR.secret): Attempt {
  const signature = new Webhook(secret).sign(id, new Date(VECTOR.timestamp * 1000), body);
  return { raw: body, headers: { 'webhook-id': id, 'webhook-signature': signature } };
}

function event(data: unknown, type = 'payment.completed') {
  return verify(signed(JSON.stringify({ type, data })));
}

describe('a delivery is authentic', () => {
  it('with the published vector', () => {
    expect(verify()).toMatchObject({ kind: 'event', dedupeKey: VECTOR.id });
  });

  it('when the reference implementation signed it, whatever the text', () => {
    for (const body of ['{}', '{"type":"ünïcode \u{1f600}"}', '', ' {"type":"x"}\n']) {
      expect(verify(signed(body))).toMatchObject({ kind: 'event' });
    }
  });

  it('when any one of several signatures is right, as during a rotation at the sender', () => {
    const wrong = `v1,${Buffer.alloc(32).toString('base64')}`;
    expect(verify({ headers: { 'webhook-signature': `${wrong} ${VECTOR.signature}` } })).toMatchObject({
      kind: 'event',
    });
    expect(verify({ headers: { 'webhook-signature': `v1a,xyz ${VECTOR.signature}` } })).toMatchObject({
      kind: 'event',
    });
  });

  it('with either of two secrets, as during a rotation here', () => {
    const by = standardProvider('standard', [NEW_SECRET, VECTOR.secret]);
    expect(verify({ by })).toMatchObject({ kind: 'event' });
    expect(verify({ ...signed('{}', 'msg_1', NEW_SECRET), by })).toMatchObject({ kind: 'event' });
  });

  it('with a secret that is written without its prefix', () => {
    const by = standardProvider('standard', [VECTOR.secret.replace('whsec_', '')]);
    expect(verify({ by })).toMatchObject({ kind: 'event' });
  });

  it('up to 300 s before and after it was signed', () => {
    expect(verify({ now: addSeconds(NOW, 300) })).toMatchObject({ kind: 'event' });
    expect(verify({ now: addSeconds(NOW, -300) })).toMatchObject({ kind: 'event' });
  });
});

const refused: readonly [string, Attempt][] = [
  ['the body was changed', { raw: '{"test": 2432232315}' }],
  ['the body was printed again', { raw: JSON.stringify(JSON.parse(VECTOR.raw)) }],
  ['the body lost its end', { raw: VECTOR.raw.slice(0, -1) }],
  ['the secret is another', { by: standardProvider('standard', [NEW_SECRET]) }],
  ['there is no secret', { by: standardProvider('standard', []) }],
  ['the id is missing', { headers: { 'webhook-id': undefined } }],
  ['the timestamp is missing', { headers: { 'webhook-timestamp': undefined } }],
  ['the signature is missing', { headers: { 'webhook-signature': undefined } }],
  ['the signature is empty', { headers: { 'webhook-signature': '' } }],
  ['the signature is only a version', { headers: { 'webhook-signature': 'v1,' } }],
  ['the version is another', { headers: { 'webhook-signature': VECTOR.signature.replace('v1,', 'v2,') } }],
  ['the signature has no version', { headers: { 'webhook-signature': VECTOR.signature.slice(3) } }],
  ['the signature is base64url', { headers: { 'webhook-signature': VECTOR.signature.replace('+', '-') } }],
  ['the signature lacks its padding', { headers: { 'webhook-signature': VECTOR.signature.replace('=', '') } }],
  ['signatures are joined by commas', { headers: { 'webhook-signature': `v1,x,${VECTOR.signature}` } }],
  ['it is 301 s old', { now: addSeconds(NOW, 301) }],
  ['it is 301 s early', { now: addSeconds(NOW, -301) }],
  ['the id is another', { headers: { 'webhook-id': 'msg_2' } }],
  ['the timestamp is another', { headers: { 'webhook-timestamp': String(VECTOR.timestamp + 1) } }],
  ['the timestamp is spelled otherwise', { headers: { 'webhook-timestamp': `0${VECTOR.timestamp}` } }],
  ['the timestamp is no number', { headers: { 'webhook-timestamp': 'NaN' } }],
  ['the timestamp is negative', { headers: { 'webhook-timestamp': `-${VECTOR.timestamp}` } }],
  ['the timestamp has an exponent', { headers: { 'webhook-timestamp': '1614265330e0' } }],
];

const meaning = {
  provider: 'standard',
  type: 'completed',
  reference: 'r',
  paymentId: undefined,
  refundId: undefined,
} as const;
const sentence =
  '{"type":"payment.completed","data":{"reference":"r","provider_payment_id":"c","amount":"9.99","currency":"usd"}}';

async function makeSubject(): Promise<ConformanceSubject> {
  const vectors: readonly [string, Attempt, Partial<Verdict>][] = [
    ['the published one', {}, { dedupeKey: VECTOR.id, type: 'unknown', malformed: 'type is missing' }],
    [
      'one of the reference implementation',
      signed(sentence),
      { type: 'payment.completed', event: { ...meaning, chargeId: 'c', amountMinor: 999, currency: 'USD' } },
    ],
    ['one of another type', signed('{"type":"payment.created"}'), { type: 'payment.created' }],
  ];
  return {
    ...{ provider, now: NOW, currency: 'USD', secrets: [VECTOR.secret] },
    signedHeaders: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
    vectors: vectors.map(([name, attempt, said]) => ({
      name,
      delivery: deliveryOf(attempt),
      verdict: { kind: 'event', dedupeKey: 'msg_1', event: undefined, ...said } as Verdict,
    })),
    negatives: refused
      .filter(([, { by = provider }]) => by === provider)
      .map(([name, attempt]) => ({ name, delivery: deliveryOf(attempt), at: attempt.now ?? NOW })),
    [Symbol.asyncDispose]: async () => {},
  };
}

describeConformance(provider, makeSubject);

describe('a delivery is refused', () => {
  it.each(refused)('when %s', (_, attempt) => {
    expect(verify(attempt)).toMatchObject({ kind: 'rejected' });
  });

  it('with a dot in its id, which could move the boundary of what is signed', () => {
    expect(verify(signed('{}', 'msg.1'))).toMatchObject({ kind: 'rejected' });
  });

  it('with an id that no row could hold', () => {
    expect(verify(signed('{}', 'msg\u0000'))).toMatchObject({ kind: 'rejected' });
    expect(verify(signed('{}', 'm'.repeat(256)))).toMatchObject({ kind: 'rejected' });
  });

  it('with any single bit of the signature flipped', () => {
    for (const flipped of flips(VECTOR.signature)) {
      expect(verify({ headers: { 'webhook-signature': flipped } })).toMatchObject({ kind: 'rejected' });
    }
  });

  it('with any single bit of the body flipped', () => {
    for (const raw of flips(VECTOR.raw)) expect(verify({ raw })).toMatchObject({ kind: 'rejected' });
  });

  it('when one named sender signs with the secret of another', () => {
    const shop2 = standardProvider('shop2', [NEW_SECRET]);
    expect(verify({ by: shop2 })).toMatchObject({ kind: 'rejected' });
    expect(verify({ ...signed('{}', 'msg_1', NEW_SECRET), by: shop2 })).toMatchObject({ kind: 'event' });
  });
});

describe('an authentic delivery', () => {
  it('says what happened to which payment, in minor units', () => {
    const data = { reference: 'r', payment_id: 17, provider_payment_id: 'c', amount: '9.99', currency: 'usd' };
    expect(event(data)).toEqual({
      kind: 'event',
      dedupeKey: 'msg_1',
      type: 'payment.completed',
      event: {
        provider: 'standard',
        type: 'completed',
        reference: 'r',
        paymentId: 17,
        chargeId: 'c',
        refundId: undefined,
        amountMinor: 999,
        currency: 'USD',
      },
    });
  });

  it.each([
    ['12', 'JPY', 12],
    [7, 'XTR', 7],
    ['0.000001', 'USDT', 1],
    [9.99, 'USD', undefined],
    ['9.999', 'USD', undefined],
    ['-1', 'USD', undefined],
    ['1e3', 'USD', undefined],
    ['9.99', 'XXX', undefined],
    [null, 'USD', undefined],
  ])('reads the amount %j %s as %j', (amount, currency, amountMinor) => {
    expect(event({ provider_payment_id: 'c', amount, currency })).toMatchObject({ event: { amountMinor } });
  });

  it.each([
    ['not JSON', '{"type":'],
    ['a list', '[]'],
    ['null', 'null'],
    ['without a type', '{"data":{}}'],
    ['with a type that is a number', '{"type":1,"data":{}}'],
    ['without data', '{"type":"payment.completed"}'],
    ['with a text for data', '{"type":"payment.completed","data":"x"}'],
    ['with a reference of another type', '{"type":"payment.failed","data":{"reference":1}}'],
    ['with a charge that has spaces', '{"type":"payment.failed","data":{"provider_payment_id":"a b"}}'],
    ['with a NUL in the charge', '{"type":"payment.failed","data":{"provider_payment_id":"a\\u0000"}}'],
    ['with a payment id beyond any key', '{"type":"payment.failed","data":{"payment_id":2147483648}}'],
    ['with a payment id as text', '{"type":"payment.failed","data":{"payment_id":"17"}}'],
  ])('is left for a person when the body is %s', (_, body) => {
    expect(verify(signed(body))).toMatchObject({ event: undefined, malformed: expect.any(String) });
  });

  it('of a type that is not ours has no meaning, also for names of the object prototype', () => {
    for (const type of ['payment.disputed', 'constructor', '__proto__', 'toString']) {
      const read = verify(signed(JSON.stringify({ type, data: {} })));
      expect(read).toEqual({ kind: 'event', dedupeKey: 'msg_1', type, event: undefined });
    }
  });
});

/** The text with each single bit of each of its characters changed. */
function flips(text: string): string[] {
  return [...text].flatMap((char, index) =>
    Array.from({ length: 8 }, (_, bit) => {
      const flipped = String.fromCharCode(char.charCodeAt(0) ^ (1 << bit));
      return text.slice(0, index) + flipped + text.slice(index + 1);
    }),
  );
}

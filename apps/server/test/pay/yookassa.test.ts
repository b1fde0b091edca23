import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { addSeconds, toInstant } from '../../src/domain/instant.ts';
import type { ConformanceSubject, Negative, Vector } from '../../src/pay/conformance.ts';
import type { CheckoutRequest, Delivery, Verdict } from '../../src/pay/provider.ts';
import { yookassaProvider } from '../../src/pay/yookassa.ts';
import { describeConformance } from './describe-conformance.ts';
import { startYookassa, type YookassaFake } from './fakes/yookassa.ts';

const SECRET_KEY = 'live_CanaryOfTheKey';
const NOW = toInstant(Date.UTC(2026, 10, 22, 12));

/** The networks that YooKassa publishes, as the configuration has them. */
const webhookIps = loadConfig({
  SECRET_KEY: 'q7Zk2mVx9Lr4Tn8Ws1Yb6Hd3Pf5Gj0Cu',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 'ab').toString('base64'),
  PUBLIC_URL: 'https://vpn.example.com',
  YOOKASSA_SHOP_ID: '506751',
  YOOKASSA_SECRET_KEY: SECRET_KEY,
}).config.payments.yookassa?.webhookIps as readonly string[];

const options = { shopId: '506751', publicUrl: 'https://vpn.example.com', webhookIps };
const offline = yookassaProvider({ ...options, secretKey: SECRET_KEY, apiUrl: 'http://127.0.0.1:9' });

const payment = { id: '22d6d597-000f-5000-9000-145f6df21d6f', status: 'succeeded', metadata: { reference: 'pay_1' } };
const refund = { id: '216749f7-0016-50be-b000-078d43a63ae4', status: 'succeeded', payment_id: payment.id };

function notice(
  body: unknown,
  remoteAddress: string | undefined = '185.71.76.1',
  headers: Delivery['headers'] = {},
): Delivery {
  const raw = typeof body === 'string' ? body : JSON.stringify(body);
  return { raw, headers, remoteAddress };
}

const paid = { type: 'notification', event: 'payment.succeeded', object: payment };
const paidHint: Verdict = {
  ...{ kind: 'hint', dedupeKey: `payment.succeeded:${payment.id}`, type: 'payment.succeeded' },
  ...{ chargeId: payment.id, reference: 'pay_1' },
};

const GENUINE = [
  ...['185.71.76.0', '185.71.76.31', '185.71.77.0', '185.71.77.31', '77.75.153.0', '77.75.153.127'],
  ...['77.75.154.128', '77.75.154.255', '77.75.156.11', '77.75.156.35'],
  ...['2a02:5180::', '2a02:5180:0:1509::1', '2a02:5180:ffff:ffff:ffff:ffff:ffff:ffff', '2A02:5180:0:0:0:0:0:1'],
  ...['::ffff:185.71.76.1', '::FFFF:77.75.156.35', '::ffff:b947:4c01'],
];

const FOREIGN = [
  ...[
    '185.71.75.255',
    '185.71.76.32',
    '185.71.76.255',
    '185.71.77.32',
    '185.71.78.0',
    '77.75.152.255',
    '77.75.153.128',
  ],
  ...[
    '77.75.154.127',
    '77.75.155.0',
    '77.75.156.10',
    '77.75.156.12',
    '77.75.156.34',
    '77.75.156.36',
    '127.0.0.1',
    '0.0.0.0',
  ],
  ...['2a02:517f:ffff:ffff:ffff:ffff:ffff:ffff', '2a02:5181::', '::1', '::', '::185.71.76.1', '2a02:5180::1%eth0'],
  ...['::ffff:185.71.76.32', '::ffff:b947:4c20', '64:ff9b::185.71.76.1', '2002:b947:4c01::1', '::ffff:0:185.71.76.1'],
  ...[
    '',
    ' ',
    '185.71.76',
    '185.71.76.1:443',
    '185.71.76.1, 10.0.0.1',
    '185.71.76.01',
    '0xb9.71.76.1',
    '3108457473',
    'unknown',
  ],
];

const text = notice('no JSON');
const vectors: readonly Vector[] = [
  ...GENUINE.map((address): Vector => ({ name: address, delivery: notice(paid, address), verdict: paidHint })),
  {
    name: 'a canceled payment',
    delivery: notice({ ...paid, event: 'payment.canceled' }),
    verdict: { ...paidHint, dedupeKey: `payment.canceled:${payment.id}`, type: 'payment.canceled' },
  },
  {
    name: 'a payment that was not made here',
    delivery: notice({ ...paid, object: { id: payment.id, metadata: null } }),
    verdict: { ...paidHint, reference: undefined },
  },
  {
    name: 'a refund',
    delivery: notice({ ...paid, event: 'refund.succeeded', object: refund }),
    verdict: {
      ...{ kind: 'hint', dedupeKey: `refund.succeeded:${refund.id}`, type: 'refund.succeeded' },
      ...{ chargeId: payment.id, refundId: refund.id },
    },
  },
  {
    name: 'a payout',
    delivery: notice({ ...paid, event: 'payout.succeeded', object: { id: 'po-1' } }),
    verdict: { kind: 'event', dedupeKey: 'payout.succeeded:po-1', type: 'payout.succeeded', event: undefined },
  },
  {
    name: 'no JSON',
    delivery: text,
    verdict: {
      ...{ kind: 'event', type: 'unknown', event: undefined, malformed: 'no object with an id' },
      dedupeKey: `sha256:${createHash('sha256').update(text.raw).digest('hex')}`,
    },
  },
  {
    name: 'a refund of nothing',
    delivery: notice({ ...paid, event: 'refund.succeeded', object: { id: 'r-1' } }),
    verdict: {
      ...{ kind: 'event', dedupeKey: 'refund.succeeded:r-1', type: 'refund.succeeded', event: undefined },
      malformed: 'the refund names no payment',
    },
  },
];

/** What senders write about themselves. Which hop of a proxy is believed was decided before. */
const CLAIMS = ['x-forwarded-for', 'x-real-ip', 'forwarded', 'cf-connecting-ip', 'true-client-ip', 'x-client-ip'];

const negatives: readonly Negative[] = [
  ...FOREIGN.map((address) => ({ name: `from "${address}"`, delivery: notice(paid, address) })),
  { name: 'from nowhere', delivery: { raw: JSON.stringify(paid), headers: {}, remoteAddress: undefined } },
  ...CLAIMS.map((header) => ({
    name: `${header} names an address of YooKassa`,
    delivery: notice(paid, '203.0.113.9', { [header]: header === 'forwarded' ? 'for=185.71.76.1' : '185.71.76.1' }),
  })),
  {
    name: 'the shop logs in',
    delivery: notice(paid, '203.0.113.9', { authorization: `Basic ${btoa(`506751:${SECRET_KEY}`)}` }),
  },
];

const open: YookassaFake[] = [];
afterEach(async () => {
  for (const fake of open.splice(0)) await fake.close();
});

async function startFake(secretKey = SECRET_KEY, shopKey = secretKey) {
  const fake = await startYookassa({ shopId: '506751', secretKey, now: () => Date.parse(NOW) });
  open.push(fake);
  const provider = yookassaProvider({ ...options, secretKey: shopKey, apiUrl: fake.url });
  if (!provider.createCheckout || !provider.fetchPayment || !provider.refund) throw new Error('an ability is missing');
  return { fake, provider: provider as Required<typeof provider> };
}

async function makeSubject(): Promise<ConformanceSubject> {
  const { fake, provider } = await startFake();
  return {
    ...{ provider, now: NOW, currency: 'RUB', vectors, negatives, remote: fake, signedHeaders: [] },
    secrets: [SECRET_KEY, btoa(`506751:${SECRET_KEY}`)],
    [Symbol.asyncDispose]: () => fake.close(),
  };
}

describeConformance(offline, makeSubject);

const signal = AbortSignal.timeout(60_000);
const request: CheckoutRequest = {
  ...{ reference: 'ref_1', amount: '499.00', amountMinor: 49_900, currency: 'RUB' },
  ...{ title: 'Thirty days', description: 'Never sent', returnUrl: null },
};
const query = { reference: 'ref_1', chargeId: null, createdAt: NOW, amountMinor: 49_900, currency: 'RUB' };

describe('the addresses of YooKassa', () => {
  it('are no others by a single bit, but where a network ends later', () => {
    for (const address of ['77.75.156.11', '77.75.156.35']) {
      for (let bit = 0; bit < 32; bit++) {
        const bytes = address.split('.').map(Number);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(offline.verify?.(notice(paid, bytes.join('.')), NOW).kind, bytes.join('.')).toBe('rejected');
      }
    }
  });

  it('can be others, as behind a proxy of one’s own', () => {
    const own = yookassaProvider({
      ...options,
      webhookIps: ['10.1.2.3', 'fd00::/8'],
      secretKey: 'k',
      apiUrl: 'http://x',
    });
    for (const address of ['10.1.2.3', '::ffff:10.1.2.3', 'fd12::1']) {
      expect(own.verify?.(notice(paid, address), NOW).kind).toBe('hint');
    }
    for (const address of ['10.1.2.4', '185.71.76.1']) {
      expect(own.verify?.(notice(paid, address), NOW).kind).toBe('rejected');
    }
  });
});

describe('a payment at YooKassa', () => {
  it('is captured at once, carries the reference, and is made under it as key', async () => {
    const { fake, provider } = await startFake();
    const { checkout, chargeId } = await provider.createCheckout({ ...request, title: 'x'.repeat(200) }, signal);
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toEqual({
      amount: { value: '499.00', currency: 'RUB' },
      capture: true,
      confirmation: { type: 'redirect', return_url: 'https://vpn.example.com' },
      description: 'x'.repeat(128),
      metadata: { reference: 'ref_1' },
    });
    expect(fake.requests[0]?.headers['idempotence-key']).toBe('ref_1');
    expect(checkout).toEqual({ type: 'redirect', url: `https://yoomoney.example/checkout?orderId=${chargeId}` });
  });

  it('that is still being made is unknown, and answered to the same key', async () => {
    const { fake, provider } = await startFake();
    fake.process();
    await expect(provider.createCheckout(request, signal)).rejects.toMatchObject({ kind: 'unknown' });
    await provider.createCheckout(request, signal);
    expect(fake.checkouts('ref_1')).toBe(1);
  });

  it.each([
    ['is only authorised', { status: 'waiting_for_capture', paid: true }],
    ['says succeeded without being paid', { status: 'succeeded', paid: false }],
    ['says paid without having succeeded', { status: 'pending', paid: true }],
    ['belongs to a test shop', { status: 'succeeded', paid: true, test: true }],
  ])('that %s brings nothing', async (_, fields) => {
    const { fake, provider } = await startFake();
    const { chargeId } = await provider.createCheckout(request, signal);
    fake.change('ref_1', fields);
    expect(await provider.fetchPayment({ ...query, chargeId }, signal)).toEqual({ events: [], isFinal: false });
  });

  it('counts in a test shop if it is a test, and only then', async () => {
    const { fake, provider } = await startFake('test_key');
    await provider.createCheckout(request, signal);
    fake.pay('ref_1');
    expect((await provider.fetchPayment(query, signal)).events).toHaveLength(1);
    fake.change('ref_1', { test: false });
    expect((await provider.fetchPayment(query, signal)).events).toEqual([]);
  });

  it.each([
    ['499', 49_900],
    ['499.0', 49_900],
    ['499.000', 49_900],
    ['499.001', undefined],
    ['4.99e2', undefined],
    [499, undefined],
    ['', undefined],
  ])('of the value %j came as %j', async (value, amountMinor) => {
    const { fake, provider } = await startFake();
    await provider.createCheckout(request, signal);
    fake.pay('ref_1');
    fake.change('ref_1', { amount: { value, currency: 'RUB' } });
    const { events } = await provider.fetchPayment(query, signal);
    expect(events[0]?.event).toHaveProperty('amountMinor', amountMinor);
  });

  it('is found among many by its reference when its making was not answered', async () => {
    const { fake, provider } = await startFake();
    fake.fail('drop', 'POST');
    await expect(provider.createCheckout(request, signal)).rejects.toMatchObject({ kind: 'unknown' });
    for (let other = 0; other < 130; other++) {
      await provider.createCheckout({ ...request, reference: `other_${other}` }, signal);
    }
    fake.pay('ref_1');
    expect((await provider.fetchPayment(query, signal)).events).toHaveLength(1);
    for (const seconds of [-86_401, 301]) {
      const createdAt = addSeconds(NOW, seconds);
      expect((await provider.fetchPayment({ ...query, createdAt }, signal)).events).toEqual([]);
    }
  });

  it('is not made with a wrong key, and the key is not shown', async () => {
    const { provider } = await startFake('live_other', SECRET_KEY);
    const error = await provider.createCheckout(request, signal).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: 'refused' });
    expect(String(error)).not.toContain(SECRET_KEY);
  });
});

describe('a refund at YooKassa', () => {
  async function refunding() {
    const started = await startFake();
    const { chargeId } = await started.provider.createCheckout(request, signal);
    started.fake.pay('ref_1');
    const back = { reference: 'ref_1', chargeId: chargeId ?? '', payerId: null, amountMinor: 100, currency: 'RUB' };
    return { ...started, back: { ...back, isWhole: false, idempotencyKey: 'key-1' } };
  }

  it('is pending until it is done, and only then said to be', async () => {
    const { fake, provider, back } = await refunding();
    fake.holdRefunds();
    const first = await provider.refund(back, signal);
    expect(first.status).toBe('pending');
    expect(await provider.fetchPayment(query, signal)).toMatchObject({
      events: [{ event: { type: 'completed' } }],
      isFinal: false,
    });
    fake.finishRefunds('succeeded');
    expect(await provider.refund(back, signal)).toEqual({ ...first, status: 'succeeded' });
    expect((await provider.fetchPayment(query, signal)).events[1]).toMatchObject({
      event: { refundId: first.refundId },
    });
  });

  it('that was canceled has failed', async () => {
    const { fake, provider, back } = await refunding();
    fake.holdRefunds();
    const { refundId } = await provider.refund(back, signal);
    fake.finishRefunds('canceled');
    expect(await provider.refund(back, signal)).toEqual({ status: 'failed', refundId });
    expect((await provider.fetchPayment(query, signal)).events).toHaveLength(1);
  });

  it('has a key that is never too long for the service', async () => {
    const { fake, provider, back } = await refunding();
    await provider.refund({ ...back, idempotencyKey: 'k'.repeat(200) }, signal);
    await provider.refund({ ...back, idempotencyKey: 'k'.repeat(200) }, signal);
    expect(fake.refunds?.('ref_1')).toHaveLength(1);
  });
});

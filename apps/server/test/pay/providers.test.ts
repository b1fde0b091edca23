import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Delivery } from '../../src/pay/provider.ts';
import { type App, engines, START, startApp } from '../harness.ts';
import { startCryptoPay } from './fakes/crypto-pay.ts';
import { startStripe } from './fakes/stripe.ts';
import { startYookassa } from './fakes/yookassa.ts';

const stripeKeys = { secretKey: 'sk_test_canary1', webhookSecret: 'whsec_canary2' };
const yookassaKeys = { shopId: '506751', secretKey: 'live_canary3' };
const cryptoPayKeys = { token: '12345:AAcanary4' };
const now = () => Date.parse(START);

/** A whole server, and the other sides of its three providers. */
async function startShop(engine: (typeof engines)[number], env: Readonly<Record<string, string>> = {}) {
  await using cleanup = new AsyncDisposableStack();
  const stripe = cleanup.use(await startStripe({ ...stripeKeys, now }));
  const yookassa = cleanup.use(await startYookassa({ ...yookassaKeys, now }));
  const cryptoPay = cleanup.use(await startCryptoPay({ ...cryptoPayKeys, now }));
  const variables = {
    PUBLIC_URL: 'https://vpn.example.com',
    STRIPE_SECRET_KEY: stripeKeys.secretKey,
    STRIPE_WEBHOOK_SECRET: stripeKeys.webhookSecret,
    STRIPE_API_URL: stripe.url,
    YOOKASSA_SHOP_ID: yookassaKeys.shopId,
    YOOKASSA_SECRET_KEY: yookassaKeys.secretKey,
    YOOKASSA_API_URL: yookassa.url,
    CRYPTO_PAY_TOKEN: cryptoPayKeys.token,
    CRYPTO_PAY_API_URL: cryptoPay.url,
  };
  const app = cleanup.use(await startApp({ engine, env: { ...variables, ...env } }));
  const { token } = await app.admin();
  const tariff = {
    name: 'Month',
    duration_days: 30,
    prices: [
      ['499', 'RUB'],
      ['9.99', 'USD'],
      ['4.99', 'USDT'],
    ],
  };
  const prices = tariff.prices.map(([amount, currency]) => ({ amount, currency }));
  const sold = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: { ...tariff, prices } });
  expect(sold.status, sold.text).toBe(200);
  const alice = await app.register();
  const stack = cleanup.move();
  return {
    ...{ app, stripe, yookassa, cryptoPay, tariffId: sold.body.id, token: alice.token },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

type Shop = Awaited<ReturnType<typeof startShop>>;

interface Payment {
  readonly id: number;
  readonly reference: string;
  readonly status: string;
  readonly provider_payment_id: string | null;
  readonly checkout: { readonly type: string; readonly url: string } | null;
}

async function createPayment({ app, token, tariffId }: Shop, provider: string, currency: string): Promise<Payment> {
  const body = { tariff_id: tariffId, provider, currency };
  const answer = await app.rest<Payment>('POST', '/payments', { token, body });
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
}

async function statusOf({ app, token }: Shop, { id }: Payment): Promise<string> {
  return (await app.rest<Payment>('GET', `/payments/status/${id}`, { token })).body.status;
}

async function send(app: App, provider: string, { raw, headers }: Delivery, more: Record<string, string> = {}) {
  const given = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const options = { body: raw, headers: { ...Object.fromEntries(given), ...more } };
  const { status, body } = await app.rest<{ result?: string }>('POST', `/payments/webhook/${provider}`, options);
  return [status, body.result];
}

describe.each(engines)('providers of a server on %s', (engine) => {
  it('are those whose variables are set', async () => {
    await using shop = await startShop(engine);
    const { body } = await shop.app.rest<{ name: string; checkout: string }[]>('GET', '/payments/providers');
    const found = Object.fromEntries(body.map(({ name, checkout }) => [name, checkout]));
    expect(found).toMatchObject({ stripe: 'redirect', yookassa: 'redirect', crypto_pay: 'redirect', manual: 'manual' });
    await using bare = await startApp({ engine });
    const { body: few } = await bare.rest<{ name: string }[]>('GET', '/payments/providers');
    expect(few.map(({ name }) => name)).toEqual(['standard', 'shop2', 'manual']);
    expect((await bare.rest('POST', '/payments/webhook/stripe', { body: '{}' })).status).toBe(404);
  });

  it.each([
    ['stripe', 'USD'],
    ['cryptoPay', 'USDT'],
    ['cryptoPay', 'RUB'],
  ] as const)('take a payment through %s in %s, from the checkout to the webhook', async (side, currency) => {
    await using shop = await startShop(engine);
    const name = side === 'cryptoPay' ? 'crypto_pay' : side;
    const payment = await createPayment(shop, name, currency);
    expect(payment).toMatchObject({ status: 'pending', checkout: { type: 'redirect' } });
    expect(await createPayment(shop, name, currency)).toEqual(payment);
    expect(shop[side].checkouts(payment.reference)).toBe(1);
    const [paid] = shop[side].pay(payment.reference);
    if (paid === undefined) throw new Error('nothing was sent');
    expect(await send(shop.app, name, { ...paid, raw: `${paid.raw} ` })).toEqual([401, undefined]);
    expect(await send(shop.app, name, paid)).toEqual([200, 'settled']);
    expect(await send(shop.app, name, paid)).toEqual([200, 'duplicate']);
    expect(await statusOf(shop, payment)).toBe('completed');
  });

  it('leave a payment open when the provider is down, and open it at the next call', async () => {
    await using shop = await startShop(engine);
    shop.stripe.fail('busy', 'POST');
    const body = { tariff_id: shop.tariffId, provider: 'stripe', currency: 'USD' };
    const refused = await shop.app.rest('POST', '/payments', { token: shop.token, body });
    expect(refused.status).toBe(503);
    const payment = await createPayment(shop, 'stripe', 'USD');
    expect(payment.checkout?.type).toBe('redirect');
  });

  it('keep what comes from an address of YooKassa, as the last proxy saw it', async () => {
    await using shop = await startShop(engine, { TRUSTED_PROXIES: '127.0.0.1' });
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const [notice] = shop.yookassa.pay(payment.reference);
    if (notice === undefined) throw new Error('nothing was sent');
    const from = (hops: string) => send(shop.app, 'yookassa', notice, { 'x-forwarded-for': hops });
    expect(await from('203.0.113.9')).toEqual([401, undefined]);
    expect(await from('185.71.76.1, 203.0.113.9')).toEqual([401, undefined]);
    expect(await send(shop.app, 'yookassa', notice)).toEqual([401, undefined]);
    expect((await from('203.0.113.9, 185.71.76.1'))[0]).toBe(200);
  });

  it('believe no header where no proxy is trusted', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const [notice] = shop.yookassa.pay(payment.reference);
    if (notice === undefined) throw new Error('nothing was sent');
    const hops = { 'x-forwarded-for': '185.71.76.1' };
    expect(await send(shop.app, 'yookassa', notice, hops)).toEqual([401, undefined]);
  });

  it('show none of their secrets, whatever goes wrong', async () => {
    await using shop = await startShop(engine);
    for (const [side, name, currency] of [
      ['stripe', 'stripe', 'USD'],
      ['yookassa', 'yookassa', 'RUB'],
      ['cryptoPay', 'crypto_pay', 'RUB'],
    ] as const) {
      for (const fault of ['refuse', 'fail_after', 'page', 'drop'] as const) {
        shop[side].fail(fault, 'POST');
        const body = { tariff_id: shop.tariffId, provider: name, currency };
        const answer = await shop.app.rest('POST', '/payments', { token: shop.token, body });
        expect(answer.text).not.toContain('canary');
      }
      await send(shop.app, name, { raw: '{}', headers: { 'stripe-signature': 'canary' }, remoteAddress: undefined });
    }
    expect(shop.app.logs.filter((line) => line.includes('canary'))).toEqual([]);
    expect(inspect(shop.app.services.providers, { depth: 5, showHidden: true })).not.toContain('canary');
  });
});

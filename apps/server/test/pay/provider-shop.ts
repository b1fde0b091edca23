import { findPayment, listPeriodsForUser, type PaymentRow } from '@vpn-api/db';
import { expect } from 'vitest';
import { epochMs } from '../../src/domain/instant.ts';
import type { Delivery } from '../../src/pay/provider.ts';
import { type App, type engines, PASSWORD, START, startApp } from '../harness.ts';
import { ManualClock } from '../manual-clock.ts';
import { startCryptoPay } from './fakes/crypto-pay.ts';
import { startStripe } from './fakes/stripe.ts';
import { startTelegram } from './fakes/telegram.ts';
import { startYookassa } from './fakes/yookassa.ts';

const stripeKeys = { secretKey: 'sk_test_canary1', webhookSecret: 'whsec_canary2' };
const yookassaKeys = { shopId: '506751', secretKey: 'live_canary3' };
const cryptoPayKeys = { token: '12345:AAcanary4' };
const telegramKeys = { botToken: '67890:AAcanary5', webhookSecret: 'canary6' };
/** A whole server, and the other sides of its providers, all with one clock. */
export async function startShop(engine: (typeof engines)[number], env: Readonly<Record<string, string>> = {}) {
  await using cleanup = new AsyncDisposableStack();
  const clock = new ManualClock(START);
  const now = () => epochMs(clock.now());
  const stripe = cleanup.use(await startStripe({ ...stripeKeys, now }));
  const yookassa = cleanup.use(await startYookassa({ ...yookassaKeys, now }));
  const cryptoPay = cleanup.use(await startCryptoPay({ ...cryptoPayKeys, now }));
  const telegram = cleanup.use(await startTelegram({ ...telegramKeys, now }));
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
    TELEGRAM_BOT_TOKEN: telegramKeys.botToken,
    TELEGRAM_WEBHOOK_SECRET: telegramKeys.webhookSecret,
    TELEGRAM_API_URL: telegram.url,
  };
  const app = cleanup.use(await startApp({ engine, clock, env: { ...variables, ...env } }));
  const { token } = await app.admin();
  const tariff = {
    name: 'Month',
    duration_days: 30,
    prices: [
      ['499', 'RUB'],
      ['9.99', 'USD'],
      ['4.99', 'USDT'],
      ['250', 'XTR'],
    ],
  };
  const prices = tariff.prices.map(([amount, currency]) => ({ amount, currency }));
  const sold = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: { ...tariff, prices } });
  expect(sold.status, sold.text).toBe(200);
  const alice = await app.register();
  const stack = cleanup.move();
  return {
    ...{
      app,
      clock,
      stripe,
      yookassa,
      cryptoPay,
      telegram,
      tariffId: sold.body.id,
      userId: alice.id,
      token: alice.token,
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export type Shop = Awaited<ReturnType<typeof startShop>>;

export interface Payment {
  readonly id: number;
  readonly reference: string;
  readonly status: string;
  readonly provider_payment_id: string | null;
  readonly checkout: { readonly type: string; readonly url: string } | null;
}

export async function createPayment(
  { app, token, tariffId }: Shop,
  provider: string,
  currency: string,
): Promise<Payment> {
  const body = { tariff_id: tariffId, provider, currency };
  const answer = await app.rest<Payment>('POST', '/payments', { token, body });
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
}

export async function statusOf({ app, token }: Shop, { id }: Payment): Promise<string> {
  return (await app.rest<Payment>('GET', `/payments/status/${id}`, { token })).body.status;
}

export async function send(app: App, provider: string, { raw, headers }: Delivery, more: Record<string, string> = {}) {
  const given = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const options = { body: raw, headers: { ...Object.fromEntries(given), ...more } };
  const { status, body } = await app.rest<{ result?: string }>('POST', `/payments/webhook/${provider}`, options);
  return [status, body.result];
}

/** The providers that are called, as the tests name them: side of the shop, name on the wire, a currency, its price. */
export const CALLED_PROVIDERS = [
  ['stripe', 'stripe', 'USD'],
  ['cryptoPay', 'crypto_pay', 'USDT'],
  ['yookassa', 'yookassa', 'RUB'],
  ['telegram', 'telegram_stars', 'XTR'],
] as const;

/** Time passes, and the jobs do what has become due. */
export async function pass({ app, clock }: Shop, seconds: number): Promise<void> {
  clock.advance(seconds);
  await app.settled();
  // Loops that ran while time jumped rest for a second.
  clock.advance(1);
  await app.settled();
}

/** Signed in anew: these tests live through days, and a token through less than an hour. */
export async function adminToken({ app }: Shop): Promise<string> {
  const { email } = await app.admin();
  const body = { email, password: PASSWORD };
  return (await app.rest<{ access_token: string }>('POST', '/auth/login', { body })).body.access_token;
}

export async function paymentRow({ app }: Shop, { id }: Payment): Promise<PaymentRow> {
  const row = await findPayment(app.store, id);
  if (row === undefined) throw new Error(`no payment ${id}`);
  return row;
}

/** What is left of the customer's subscription: per period its tariff days, or that it is revoked. */
export async function periodsOf({ app, userId }: Shop): Promise<string[]> {
  const periods = await listPeriodsForUser(app.store, userId);
  return periods.map(({ revoked_at }) => (revoked_at === null ? 'running' : 'revoked'));
}

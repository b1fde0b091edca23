import { randomUUID } from 'node:crypto';
import { epochMs } from '../../src/domain/instant.ts';
import type { Fault, Remote } from '../../src/pay/conformance.ts';
import type { Delivery } from '../../src/pay/provider.ts';
import { type App, START, signStandard } from '../harness.ts';
import { startCryptoPay } from '../pay/fakes/crypto-pay.ts';
import { startStripe } from '../pay/fakes/stripe.ts';
import { startTelegram } from '../pay/fakes/telegram.ts';
import { startYookassa } from '../pay/fakes/yookassa.ts';

/** One paid order, and how its provider tells of it. */
export interface Sale {
  readonly userId: number;
  readonly paymentId: number;
  /** Sends the n-th notice of this payment; the same `n` is the same notice. Answers the HTTP status. */
  deliver(n: number): Promise<number>;
}

/** A provider in the world outside, paid at and telling us so. */
export interface Source extends AsyncDisposable {
  /** Variables that make the server know it. */
  readonly env: Readonly<Record<string, string>>;
  /** A customer orders and pays there. */
  sell(app: App): Promise<Sale>;
  /** What the next question to it runs into. Absent where nothing is ever asked. */
  fail?(fault: Fault): void;
  /** It is well again: what has struck nothing yet never does. */
  recover?(): void;
}

export interface NamedSource {
  readonly name: string;
  open(): Promise<Source>;
}

export interface Ordered {
  readonly id: number;
  readonly reference: string;
  readonly amount: string;
  readonly currency: string;
  readonly provider_payment_id: string | null;
}

/** A new customer with an open payment at a provider. */
export async function order(app: App, provider: string, currency: string, price: string) {
  const customer = await app.register(`${randomUUID()}@example.com`);
  const { token } = await app.admin();
  const tariff = { name: randomUUID(), duration_days: 30, price, currency };
  const { body: sold } = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: tariff });
  const body = { tariff_id: sold.id, provider, currency };
  const answer = await app.rest<Ordered>('POST', '/payments', { token: customer.token, body });
  if (answer.status !== 200) throw new Error(`payment: ${answer.status} ${answer.text}`);
  return { userId: customer.id, payment: answer.body };
}

/** Delivers bytes to a provider's webhook; answers the HTTP status. */
export async function post(
  app: App,
  provider: string,
  { body, headers }: { readonly body: string; readonly headers: Readonly<Record<string, string>> },
): Promise<number> {
  return (await app.rest('POST', `/payments/webhook/${provider}`, { body, headers })).status;
}

const standard: NamedSource = {
  name: 'standard',
  open: async () => ({
    env: {},
    sell: async (app) => {
      const { userId, payment } = await order(app, 'standard', 'USD', '5.00');
      const { reference, amount, currency } = payment;
      const data = { reference, provider_payment_id: `ch_${reference}`, amount, currency };
      const body = JSON.stringify({ type: 'payment.completed', data });
      const seconds = Math.floor(epochMs(app.services.clock.now()) / 1000);
      return {
        userId,
        paymentId: payment.id,
        deliver: (n) =>
          post(app, 'standard', { body, headers: signStandard(body, { seconds, id: `${reference}_${n}` }) }),
      };
    },
    [Symbol.asyncDispose]: async () => {},
  }),
};

interface RemoteSource {
  readonly name: string;
  readonly currency: string;
  readonly price: string;
  /** What proxies would add. */
  readonly headers?: Readonly<Record<string, string>>;
  open(): Promise<{
    readonly remote: Pick<Remote, 'pay' | 'fail' | 'recover'> & AsyncDisposable;
    readonly env: Readonly<Record<string, string>>;
    /** The n-th notice of what the first one tells. */
    again(first: Delivery, n: number): Delivery;
  }>;
}

/** A provider with a far side of its own, which the server opens payments at and reads them back from. */
function remoteSource({ name, currency, price, headers = {}, open }: RemoteSource): NamedSource {
  return {
    name,
    open: async () => {
      const { remote, env, again } = await open();
      return {
        env,
        sell: async (app) => {
          const { userId, payment } = await order(app, name, currency, price);
          const [first] = remote.pay(payment.reference);
          if (first === undefined) throw new Error(`${name} tells nothing`);
          const deliver = (n: number) => post(app, name, bytesOf(n === 0 ? first : again(first, n), headers));
          return { userId, paymentId: payment.id, deliver };
        },
        fail: (fault) => remote.fail(fault, 'GET'),
        recover: () => remote.recover(),
        [Symbol.asyncDispose]: () => remote[Symbol.asyncDispose](),
      };
    },
  };
}

function bytesOf({ raw, headers }: Delivery, more: Readonly<Record<string, string>>) {
  const given = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { body: raw, headers: { ...Object.fromEntries(given), ...more } };
}

const now = () => Date.parse(START);
const PUBLIC_URL = 'https://vpn.example.com';

const stripe = remoteSource({
  name: 'stripe',
  currency: 'USD',
  price: '5.00',
  open: async () => {
    const keys = { secretKey: 'sk_test_reliability', webhookSecret: 'whsec_reliability' };
    const remote = await startStripe({ ...keys, now });
    return {
      remote,
      env: {
        PUBLIC_URL,
        STRIPE_SECRET_KEY: keys.secretKey,
        STRIPE_WEBHOOK_SECRET: keys.webhookSecret,
        STRIPE_API_URL: remote.url,
      },
      again: ({ raw }) => {
        const { type, data } = JSON.parse(raw) as { type: string; data: { object: Record<string, unknown> } };
        return remote.deliver(type, data.object);
      },
    };
  },
});

const cryptoPay = remoteSource({
  name: 'crypto_pay',
  currency: 'USDT',
  price: '5.00',
  open: async () => {
    const token = '12345:AAreliability';
    const remote = await startCryptoPay({ token, now });
    return {
      remote,
      env: { CRYPTO_PAY_TOKEN: token, CRYPTO_PAY_API_URL: remote.url },
      again: ({ raw }) => {
        const { update_type, payload } = JSON.parse(raw) as { update_type: string; payload: Record<string, unknown> };
        return remote.deliver(update_type, payload);
      },
    };
  },
});

const yookassa = remoteSource({
  name: 'yookassa',
  currency: 'RUB',
  price: '499.00',
  headers: { 'x-forwarded-for': '185.71.76.1' },
  open: async () => {
    const keys = { shopId: '506751', secretKey: 'live_reliability' };
    const remote = await startYookassa({ ...keys, now });
    return {
      remote,
      env: {
        PUBLIC_URL,
        TRUSTED_PROXIES: '127.0.0.1',
        YOOKASSA_SHOP_ID: keys.shopId,
        YOOKASSA_SECRET_KEY: keys.secretKey,
        YOOKASSA_API_URL: remote.url,
      },
      // There are no event ids: the object is all that a notice names.
      again: (first) => first,
    };
  },
});

const telegramStars = remoteSource({
  name: 'telegram_stars',
  currency: 'XTR',
  price: '250',
  open: async () => {
    const keys = { botToken: '67890:AAreliability', webhookSecret: 'reliability' };
    const remote = await startTelegram({ ...keys, now });
    return {
      remote,
      env: {
        TELEGRAM_BOT_TOKEN: keys.botToken,
        TELEGRAM_WEBHOOK_SECRET: keys.webhookSecret,
        TELEGRAM_API_URL: remote.url,
      },
      again: ({ raw }) => {
        const { update_id: _, ...update } = JSON.parse(raw) as Record<string, unknown>;
        return remote.deliver(update);
      },
    };
  },
});

/** Providers that are asked when they do not tell. */
export const askedSources: readonly NamedSource[] = [stripe, cryptoPay, yookassa, telegramStars];

export const sources: readonly NamedSource[] = [standard, ...askedSources];

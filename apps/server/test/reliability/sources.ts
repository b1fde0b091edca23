import { randomUUID } from 'node:crypto';
import { epochMs } from '../../src/domain/instant.ts';
import { type App, signStandard } from '../harness.ts';

/** One paid order, and how its provider tells of it. */
export interface Sale {
  readonly userId: number;
  /** Sends the n-th notice of this payment; the same `n` is the same notice. Answers the HTTP status. */
  deliver(n: number): Promise<number>;
}

/** A provider in the world outside, paid at and telling us so. */
export interface Source extends AsyncDisposable {
  /** Variables that make the server know it. */
  readonly env: Readonly<Record<string, string>>;
  /** A customer orders and pays there. */
  sell(app: App): Promise<Sale>;
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
        deliver: (n) =>
          post(app, 'standard', { body, headers: signStandard(body, { seconds, id: `${reference}_${n}` }) }),
      };
    },
    [Symbol.asyncDispose]: async () => {},
  }),
};

export const sources: readonly NamedSource[] = [standard];

import { randomUUID } from 'node:crypto';
import type { Answer, RestOptions } from '../harness.ts';

/** A server that the story is played against: in this process, or in another. */
export interface Counter {
  rest<T = Record<string, unknown>>(method: string, path: string, options?: RestOptions): Promise<Answer<T>>;
  webhook(event: unknown, options?: { readonly id?: string }): Promise<Answer>;
}

export interface Tariff {
  readonly id: number;
}

export interface Payment {
  readonly id: number;
  readonly reference: string;
  readonly amount: string;
  readonly currency: string;
}

export interface Peer {
  readonly id: number;
  readonly wg_public_key: string;
}

/** The answer's body. @throws Error for anything but 200 */
export async function ok<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { status, text, body } = await answer;
  if (status !== 200) throw new Error(`${status} ${text}`);
  return body;
}

export function sellTariff(
  { rest }: Pick<Counter, 'rest'>,
  token: string,
  deviceLimit = 1,
  more: Readonly<Record<string, unknown>> = {},
): Promise<Tariff> {
  const price = { price: '5.00', currency: 'USD' };
  const body = { name: randomUUID(), duration_days: 30, ...price, device_limit: deviceLimit, ...more };
  return ok(rest<Tariff & Record<string, unknown>>('POST', '/tariffs', { token, body }));
}

export function openPayment({ rest }: Pick<Counter, 'rest'>, token: string, tariff: Tariff): Promise<Payment> {
  const body = { tariff_id: tariff.id, provider: 'standard' };
  return ok(rest<Payment & Record<string, unknown>>('POST', '/payments/create', { token, body }));
}

/** What the shop's sender says once the customer has paid. The same payment always gives the same event. */
export function paidEvent({ reference, amount, currency }: Payment) {
  return { type: 'payment.completed', data: { reference, provider_payment_id: `ch_${reference}`, amount, currency } };
}

/** Opens a payment and delivers its signed webhook. */
export async function pay(counter: Counter, token: string, tariff: Tariff): Promise<Payment> {
  const payment = await openPayment(counter, token, tariff);
  await deliver(counter, payment);
  return payment;
}

export async function deliver(counter: Counter, payment: Payment): Promise<string> {
  const { result } = await ok<{ result?: unknown }>(
    counter.webhook(paidEvent(payment), { id: `msg_${payment.reference}` }),
  );
  return String(result);
}

export function addDevice({ rest }: Pick<Counter, 'rest'>, token: string): Promise<Peer> {
  return ok(rest<Peer & Record<string, unknown>>('POST', '/vpn_peers/self', { token, body: {} }));
}

export async function fetchConfig({ rest }: Pick<Counter, 'rest'>, token: string): Promise<string> {
  return (await ok(rest<{ wg_quick: string }>('GET', '/vpn_peers/self/config', { token }))).wg_quick;
}

import { createHmac, timingSafeEqual } from 'node:crypto';
import { epochMs, type Instant } from '../domain/instant.ts';
import { isCurrency, readAmount } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import type { Delivery, PaymentProvider, RejectedDelivery, VerifiedEvent } from './provider.ts';

/** Standard Webhooks: a delivery older or newer than this is a replay or comes from a wrong clock. */
const TOLERANCE_SECONDS = 300;

const typeByName: Readonly<Record<string, SettlementEvent['type']>> = {
  'payment.completed': 'completed',
  'payment.failed': 'failed',
  'payment.refunded': 'refunded',
};

/**
 * A shop or bot that signs its payment events as Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over
 * `id.timestamp.body` with the base64-decoded part of a `whsec_…` secret. Several secrets allow rotation.
 */
export function standardProvider(name: string, secrets: readonly string[]): PaymentProvider {
  const keys = secrets.map((secret) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64'));
  return {
    name,
    checkoutType: 'external',
    verify: (delivery, now) => {
      const problem = checkSignature(delivery, keys, now);
      return problem ?? readEvent(name, delivery);
    },
  };
}

function checkSignature(
  { raw, headers }: Delivery,
  keys: readonly Buffer[],
  now: Instant,
): RejectedDelivery | undefined {
  const id = headers['webhook-id'];
  const timestamp = headers['webhook-timestamp'];
  const signatures = headers['webhook-signature'];
  if (!id || !timestamp || !signatures) return rejected('a signature header is missing');
  if (id.length > 255) return rejected('webhook-id is too long');
  if (!/^\d{1,12}$/.test(timestamp)) return rejected('webhook-timestamp is not a number of seconds');
  if (Math.abs(epochMs(now) / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return rejected('webhook-timestamp is too far off');
  const given = signatures.split(' ').filter((part) => part.startsWith('v1,')).map((part) => Buffer.from(part.slice(3), 'base64'));
  const matches = keys.some((key) => {
    const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${raw}`).digest();
    return given.some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected));
  });
  return matches ? undefined : rejected('no signature matches');
}

function rejected(reason: string): RejectedDelivery {
  return { kind: 'rejected', reason };
}

function readEvent(provider: string, { raw, headers }: Delivery): VerifiedEvent {
  const dedupeKey = headers['webhook-id'] ?? '';
  const body = parseObject(raw);
  if (body === undefined) return malformed(dedupeKey, 'unknown', 'the body is not a JSON object');
  const type = textOf(body.type, 100);
  if (type === undefined) return malformed(dedupeKey, 'unknown', 'type is missing');
  const action = Object.hasOwn(typeByName, type) ? typeByName[type] : undefined;
  if (action === undefined) return { kind: 'event', dedupeKey, type, event: undefined };
  if (!isObject(body.data)) return malformed(dedupeKey, type, 'data is missing');
  const event = settlementEvent(provider, action, body.data);
  return typeof event === 'string' ? malformed(dedupeKey, type, event) : { kind: 'event', dedupeKey, type, event };
}

function malformed(dedupeKey: string, type: string, reason: string): VerifiedEvent {
  return { kind: 'event', dedupeKey, type, event: undefined, malformed: reason };
}

/** The event, or what is wrong with its data. */
function settlementEvent(
  provider: string,
  type: SettlementEvent['type'],
  data: Record<string, unknown>,
): SettlementEvent | string {
  for (const key of ['reference', 'provider_payment_id', 'refund_id', 'currency']) {
    if (data[key] != null && textOf(data[key], 255) === undefined) return `${key} is not a printable string`;
  }
  if (data.payment_id != null && !isId(data.payment_id)) return 'payment_id is not a positive integer';
  const currency = textOf(data.currency, 255)?.toUpperCase();
  return {
    provider,
    type,
    reference: textOf(data.reference, 255),
    paymentId: isId(data.payment_id) ? data.payment_id : undefined,
    chargeId: textOf(data.provider_payment_id, 255),
    refundId: textOf(data.refund_id, 255),
    currency,
    amountMinor: amountOf(data.amount, currency),
  };
}

/** Undefined when it cannot be an amount of that currency: it then differs from every quote. */
function amountOf(value: unknown, currency: string | undefined): SettlementEvent['amountMinor'] {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  if (currency === undefined || !isCurrency(currency)) return undefined;
  return readAmount(value, currency);
}

function parseObject(raw: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(raw);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 2_147_483_647;
}

function textOf(value: unknown, max: number): string | undefined {
  return typeof value === 'string' && value.length <= max && /^[\x21-\x7e]+$/.test(value) ? value : undefined;
}

import { equalsConstantTime } from '../crypto/random.ts';
import { signWebhook, webhookKey } from '../crypto/standard-webhook.ts';
import { epochMs, type Instant } from '../domain/instant.ts';
import { isCurrency, readAmount } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import type { Delivery, PaymentProvider, RejectedDelivery, VerifiedEvent } from './provider.ts';
import { type Json, malformed, meaningless, objectOf, parseObject, rejected, textOf } from './read.ts';

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
  const keys = secrets.map(webhookKey);
  return {
    name,
    checkoutType: 'external',
    authenticatesBy: 'signature',
    verify: (delivery, now) => checkSignature(delivery, keys, now) ?? readEvent(name, delivery),
  };
}

/** No dot, which separates the id from the rest of what is signed: a shifted boundary must not verify. */
const MESSAGE_ID = /^[\x21-\x2d\x2f-\x7e]{1,255}$/;

function checkSignature(
  { raw, headers }: Delivery,
  keys: readonly Buffer[],
  now: Instant,
): RejectedDelivery | undefined {
  const id = headers['webhook-id'];
  const timestamp = headers['webhook-timestamp'];
  const signatures = headers['webhook-signature'];
  if (!id || !timestamp || !signatures) return rejected('a signature header is missing');
  if (!MESSAGE_ID.test(id)) return rejected('webhook-id is not a message id');
  if (!/^\d{1,12}$/.test(timestamp)) return rejected('webhook-timestamp is not a number of seconds');
  const skewSeconds = epochMs(now) / 1000 - Number(timestamp);
  if (Math.abs(skewSeconds) > TOLERANCE_SECONDS) return rejected('webhook-timestamp is too far off');
  const expected = keys.map((key) => signWebhook(key, `${id}.${timestamp}.${raw}`));
  return hasCommon(expected, signatures.split(' ')) ? undefined : rejected('no signature matches');
}

/** Compares the texts, not what they decode to: Node reads one signature from many spellings. */
function hasCommon(expected: readonly string[], given: readonly string[]): boolean {
  return expected.some((signature) => given.some((candidate) => equalsConstantTime(signature, candidate)));
}

function readEvent(provider: string, { raw, headers }: Delivery): VerifiedEvent {
  const dedupeKey = headers['webhook-id'] ?? '';
  const body = parseObject(raw);
  if (body === undefined) return malformed(dedupeKey, 'unknown', 'the body is not a JSON object');
  const type = textOf(body.type);
  if (type === undefined) return malformed(dedupeKey, 'unknown', 'type is missing');
  const action = Object.hasOwn(typeByName, type) ? typeByName[type] : undefined;
  if (action === undefined) return meaningless(dedupeKey, type);
  const data = objectOf(body.data);
  if (data === undefined) return malformed(dedupeKey, type, 'data is missing');
  const event = settlementEvent(provider, action, data);
  return typeof event === 'string' ? malformed(dedupeKey, type, event) : { kind: 'event', dedupeKey, type, event };
}

/** The event, or what is wrong with its data. */
function settlementEvent(provider: string, type: SettlementEvent['type'], data: Json): SettlementEvent | string {
  const unreadable = TEXT_KEYS.find((key) => data[key] != null && textOf(data[key]) === undefined);
  if (unreadable !== undefined) return `${unreadable} is not a printable string`;
  if (data.payment_id != null && !isId(data.payment_id)) return 'payment_id is not a positive integer';
  const currency = textOf(data.currency)?.toUpperCase();
  return {
    provider,
    type,
    reference: textOf(data.reference),
    paymentId: isId(data.payment_id) ? data.payment_id : undefined,
    chargeId: textOf(data.provider_payment_id),
    refundId: textOf(data.refund_id),
    currency,
    amountMinor: amountOf(data.amount, currency),
  };
}

const TEXT_KEYS = ['reference', 'provider_payment_id', 'refund_id', 'currency'] as const;

/** Undefined when it cannot be an amount of that currency. */
function amountOf(value: unknown, currency: string | undefined): SettlementEvent['amountMinor'] {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  if (currency === undefined || !isCurrency(currency)) return undefined;
  return readAmount(value, currency);
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 2_147_483_647;
}

import { createHmac } from 'node:crypto';
import { equalsConstantTime, sha256Hex } from '../crypto/random.ts';
import { epochMs, type Instant } from '../domain/instant.ts';
import { currencyExponent, isAmountMinor, isCurrency } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import {
  type CheckoutRequest,
  type CreatedCheckout,
  type Delivery,
  type FetchedEvent,
  type FetchedPayment,
  type Hint,
  type PaymentProvider,
  type PaymentQuery,
  ProviderError,
  type RefundAnswer,
  type RefundRequest,
  type RejectedDelivery,
  type VerifiedEvent,
} from './provider.ts';
import { type ProviderHttp, type ProviderResponse, providerHttp, statusError } from './provider-http.ts';
import {
  hint,
  isPathPart,
  type Json,
  malformed,
  meaningless,
  objectOf,
  objectsOf,
  parseObject,
  rejected,
  textOf,
} from './read.ts';

export interface StripeOptions {
  readonly apiUrl: string;
  /** `sk_` or `rk_`; live or test says which events are ours. */
  readonly secretKey: string;
  /** `whsec_…`, used as the text it is. */
  readonly webhookSecret: string;
  /** Where the customer returns to when the payment names no page. */
  readonly publicUrl: string;
}

const NAME = 'stripe';
/** Without it answers would have the shape of whatever version the account was opened with. */
const API_VERSION = '2024-06-20';
/** Stripe's own libraries refuse only what is too old. A time far ahead is a wrong clock or a stored delivery. */
const TOLERANCE_SECONDS = 300;

/**
 * Stripe Checkout. The charge is the Checkout session (`cs_…`), a refund is `re_…`. Refunds and disputes name only Stripe's
 * own payment intent, so where the payment's reference is not in them they are hints: the reference is read back from
 * the payment intent, and then everything about the payment from its session.
 */
export function stripeProvider(options: StripeOptions): PaymentProvider {
  const http = providerHttp({
    name: NAME,
    baseUrl: options.apiUrl,
    headers: { authorization: `Bearer ${options.secretKey}`, 'stripe-version': API_VERSION },
  });
  const isLive = /^[sr]k_live_/.test(options.secretKey);
  return {
    name: NAME,
    checkoutType: 'redirect',
    currencies: STRIPE_CURRENCIES,
    authenticatesBy: 'signature',
    verify: (delivery, now) =>
      checkSignature(delivery, options.webhookSecret, now) ?? readDelivery(delivery.raw, isLive),
    createCheckout: (request, signal) => createSession({ http, signal }, request, options.publicUrl),
    fetchPayment: (query, signal) => readPayment({ http, signal }, query),
    findReference: ({ chargeId }, signal) => readReference({ http, signal }, chargeId),
    refund: (request, signal) => refundSession({ http, signal }, request),
  };
}

function checkSignature({ raw, headers }: Delivery, secret: string, now: Instant): RejectedDelivery | undefined {
  const header = headers['stripe-signature'];
  if (!header) return rejected('stripe-signature is missing');
  const parts = header.split(',').map((part) => part.trim());
  const valuesOf = (scheme: string) =>
    parts.filter((part) => part.startsWith(`${scheme}=`)).map((part) => part.slice(scheme.length + 1));
  const [timestamp = '', ...others] = valuesOf('t');
  if (!/^\d{1,12}$/.test(timestamp) || others.length > 0) return rejected('stripe-signature has no single timestamp');
  const skewSeconds = epochMs(now) / 1000 - Number(timestamp);
  if (Math.abs(skewSeconds) > TOLERANCE_SECONDS) return rejected('the timestamp is too far off');
  const expected = createHmac('sha256', secret).update(`${timestamp}.${raw}`).digest('hex');
  // While a secret is replaced Stripe signs with both.
  return valuesOf('v1').some((given) => equalsConstantTime(given, expected))
    ? undefined
    : rejected('no signature matches');
}

interface Notice {
  readonly dedupeKey: string;
  readonly type: string;
  readonly object: Json;
}

function readDelivery(raw: string, isLive: boolean): VerifiedEvent | Hint {
  const body = parseObject(raw);
  const type = textOf(body?.type) ?? 'unknown';
  const dedupeKey = textOf(body?.id) ?? `sha256:${sha256Hex(raw)}`;
  const object = objectOf(objectOf(body?.data)?.object);
  if (textOf(body?.id) === undefined || object === undefined)
    return malformed(dedupeKey, type, 'no event with an object');
  // What happens in test mode must not touch live rows, nor the other way round.
  if ((body?.livemode ?? isLive) !== isLive) return meaningless(dedupeKey, type);
  return readNotice({ dedupeKey, type, object });
}

function readNotice(notice: Notice): VerifiedEvent | Hint {
  switch (notice.type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded':
      return sessionNotice(notice, isPaid(notice.object) ? 'completed' : undefined);
    case 'checkout.session.async_payment_failed':
    case 'checkout.session.expired':
      return sessionNotice(notice, 'failed');
    case 'refund.created':
    case 'refund.updated':
      return refundNotice(notice);
    case 'charge.refunded':
      // It tells a sum over all refunds, under the id of the charge: neither is the identity of a refund.
      return moneyNotice(notice, undefined);
    case 'charge.dispute.created':
    case 'charge.dispute.updated':
    case 'charge.dispute.closed':
    case 'charge.dispute.funds_withdrawn':
    case 'charge.dispute.funds_reinstated':
      return DISPUTE_TYPES.has(notice.object.status)
        ? moneyNotice(notice, textOf(notice.object.id))
        : meaningless(notice.dedupeKey, notice.type);
    default:
      return meaningless(notice.dedupeKey, notice.type);
  }
}

/** A session without a reference was opened by something else that uses the same account. */
function sessionNotice({ dedupeKey, type, object }: Notice, action: 'completed' | 'failed' | undefined): VerifiedEvent {
  if (action === undefined || referenceOf(object) === undefined) return meaningless(dedupeKey, type);
  if (textOf(object.id) === undefined) return malformed(dedupeKey, type, 'the session has no id');
  return { kind: 'event', dedupeKey, type, event: sessionEvent(object, action) };
}

function refundNotice(notice: Notice): VerifiedEvent | Hint {
  const { dedupeKey, type, object } = notice;
  if (object.status !== 'succeeded') return meaningless(dedupeKey, type);
  const reference = referenceOf(object);
  if (reference === undefined) return moneyNotice(notice, textOf(object.id));
  return { kind: 'event', dedupeKey, type, event: refundEvent(object, { reference, chargeId: undefined }) };
}

/** About money that moved on a charge or payment intent: what exactly, is read back. */
function moneyNotice({ dedupeKey, type, object }: Notice, refundId: string | undefined): VerifiedEvent | Hint {
  const reference = referenceOf(object);
  if (reference !== undefined) return hint({ dedupeKey, type, reference, refundId });
  const chargeId = idOf(object.payment_intent) ?? idOf(object.charge);
  return chargeId === undefined ? meaningless(dedupeKey, type) : hint({ dedupeKey, type, chargeId, refundId });
}

function isPaid(session: Json): boolean {
  return session.payment_status === 'paid' || session.payment_status === 'no_payment_required';
}

function referenceOf(object: Json): string | undefined {
  return textOf(object.client_reference_id) ?? textOf(objectOf(object.metadata)?.reference);
}

/** Stripe names other objects by their id, or puts them in whole where we asked for that. */
function idOf(value: unknown): string | undefined {
  return textOf(typeof value === 'string' ? value : objectOf(value)?.id);
}

function sessionEvent(session: Json, type: 'completed' | 'failed'): SettlementEvent {
  return {
    provider: NAME,
    type,
    reference: referenceOf(session),
    chargeId: textOf(session.id),
    ...moneyOf(session.amount_total, session.currency),
  };
}

type Names = Pick<SettlementEvent, 'reference' | 'chargeId'>;

function refundEvent(refund: Json, names: Names): SettlementEvent {
  const refundId = textOf(refund.id);
  return { provider: NAME, type: 'refunded', ...names, refundId, ...moneyOf(refund.amount, refund.currency) };
}

/** The dispute stands where a refund would: it is what takes the money back. */
function disputeEvent(dispute: Json, type: SettlementEvent['type'], names: Names): SettlementEvent {
  const refundId = textOf(dispute.id);
  return { provider: NAME, type, ...names, refundId, ...moneyOf(dispute.amount, dispute.currency) };
}

/** Where Stripe counts otherwise than ISO 4217: two of these keep decimals they no longer have, one lost its own. */
const STRIPE_EXPONENTS: ReadonlyMap<string, number> = new Map([
  ['ISK', 2],
  ['UGX', 2],
  ['MGA', 0],
]);

/** What Checkout can charge and we can count. */
const STRIPE_CURRENCIES: readonly string[] = (
  'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK ' +
  'DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR ' +
  'KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR ' +
  'PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TND TOP TRY TTD TWD TZS ' +
  'UAH UGX USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW'
).split(' ');

/** How many of Stripe's units are one of ours: 1 nearly always. */
function unitsPerMinor(currency: string): number {
  const exponent = currencyExponent(currency);
  return 10 ** ((STRIPE_EXPONENTS.get(currency) ?? exponent) - exponent);
}

function moneyOf(amount: unknown, code: unknown): Pick<SettlementEvent, 'amountMinor' | 'currency'> {
  const currency = textOf(code)?.toUpperCase();
  if (typeof amount !== 'number' || currency === undefined || !isCurrency(currency)) {
    return { currency, amountMinor: undefined };
  }
  const minor = Math.round(amount / unitsPerMinor(currency));
  const isExact = isAmountMinor(minor) && minor * unitsPerMinor(currency) === amount;
  return { currency, amountMinor: isExact ? minor : undefined };
}

/** @throws ProviderError for an amount that Stripe has no unit for */
function stripeAmount(minor: number, currency: string): string {
  const amount = isCurrency(currency) ? Math.round(minor * unitsPerMinor(currency)) : Number.NaN;
  if (moneyOf(amount, currency).amountMinor !== minor) {
    throw new ProviderError('refused', `${NAME}: the amount cannot be charged in ${currency}`);
  }
  return String(amount);
}

interface Call {
  readonly http: ProviderHttp;
  readonly signal: AbortSignal;
}

/**
 * No expiry and no description are sent: Stripe refuses a repeat whose parameters differ, and these would. A session
 * expires after a day by itself.
 */
async function createSession(call: Call, request: CheckoutRequest, publicUrl: string): Promise<CreatedCheckout> {
  const { reference, currency, amountMinor, title } = request;
  const returnUrl = request.returnUrl ?? publicUrl;
  const form = {
    mode: 'payment',
    client_reference_id: reference,
    'metadata[reference]': reference,
    'payment_intent_data[metadata][reference]': reference,
    'line_items[0][quantity]': '1',
    'line_items[0][price_data][currency]': currency.toLowerCase(),
    'line_items[0][price_data][unit_amount]': stripeAmount(amountMinor, currency),
    'line_items[0][price_data][product_data][name]': title,
    success_url: returnUrl,
    cancel_url: returnUrl,
  };
  const posting = { path: '/v1/checkout/sessions', form, key: reference };
  const session = await postOnce(call, posting, () => findOpenSession(call, reference));
  const [id, url] = [textOf(session.id), session.url];
  if (id === undefined || typeof url !== 'string')
    throw new ProviderError('unknown', `${NAME}: a session without address`);
  return { checkout: { type: 'redirect', url }, chargeId: id };
}

async function findOpenSession(call: Call, reference: string): Promise<Json | undefined> {
  const sessions = await list(call, '/v1/checkout/sessions', { status: 'open' });
  return sessions.find((session) => referenceOf(session) === reference);
}

interface Posting {
  readonly path: string;
  readonly form: Readonly<Record<string, string>>;
  readonly key: string;
}

/** More saved failures in a row than this are an outage, and the caller waits it out. */
const MAX_KEYS = 3;

/**
 * Posts with an idempotency key. Stripe saves the first answer to a key, failures too, and repeats it for a day: a saved
 * failure is therefore looked behind by `findMade`, and if nothing was made the next key starts anew.
 */
async function postOnce(call: Call, posting: Posting, findMade: () => Promise<Json | undefined>): Promise<Json> {
  for (let attempt = 1; attempt <= MAX_KEYS; attempt++) {
    const key = attempt === 1 ? posting.key : `${posting.key}:${attempt}`;
    const answer = await post(call, { ...posting, key });
    const object = objectOf(answer.body);
    if (answer.status < 300 && object !== undefined) return object;
    if (!isReplayed(answer) && !isOtherRequest(answer)) throw postError(answer);
    const made = await findMade();
    if (made !== undefined) return made;
    if (!isReplayed(answer)) throw postError(answer);
  }
  throw new ProviderError('unknown', `${NAME}: POST failed ${MAX_KEYS} times`);
}

function post({ http, signal }: Call, { path, form, key }: Posting): Promise<ProviderResponse> {
  const accept = [400, 409, 500, 502, 503, 504];
  return http.request({ method: 'POST', path, form, headers: { 'idempotency-key': key }, accept }, signal);
}

function isReplayed({ status, headers }: ProviderResponse): boolean {
  return status >= 500 && headers['idempotent-replayed'] === 'true';
}

/** The key was used with other parameters: a title or a return page changed since. */
function isOtherRequest({ status, body }: ProviderResponse): boolean {
  return status === 400 && objectOf(objectOf(body)?.error)?.type === 'idempotency_error';
}

/** A conflict is a request with the same key that still runs: what becomes of it nobody knows yet. */
function postError({ status }: ProviderResponse): ProviderError {
  if (status !== 409) return statusError(NAME, { method: 'POST' }, status);
  return new ProviderError('unknown', `${NAME}: the same request is still running`);
}

/** @returns undefined when Stripe has no such object */
async function get(
  { http, signal }: Call,
  path: string,
  query: Record<string, string> = {},
): Promise<Json | undefined> {
  const { status, body } = await http.request({ method: 'GET', path, query, accept: [404] }, signal);
  return status === 404 ? undefined : objectOf(body);
}

/** The newest hundred. */
async function list(call: Call, path: string, query: Record<string, string>): Promise<readonly Json[]> {
  const page = await get(call, path, { limit: '100', ...query });
  return objectsOf(page?.data);
}

/** Between our row and the session lie a slow call and the difference of two clocks; a day is how long keys live. */
const SEARCH_BEFORE_SECONDS = 300;
const SEARCH_AFTER_SECONDS = 86_400;
const MAX_PAGES = 10;

/** For a session whose creation was never answered. */
async function findSession(call: Call, { reference, createdAt }: PaymentQuery): Promise<Json | undefined> {
  const created = Math.floor(epochMs(createdAt) / 1000);
  const window = {
    'created[gte]': String(created - SEARCH_BEFORE_SECONDS),
    'created[lte]': String(created + SEARCH_AFTER_SECONDS),
    'expand[]': 'data.payment_intent',
  };
  let after: Record<string, string> = {};
  for (let page = 0; page < MAX_PAGES; page++) {
    const sessions = await list(call, '/v1/checkout/sessions', { ...window, ...after });
    const found = sessions.filter((session) => referenceOf(session) === reference);
    const best = found.find((session) => session.status !== 'expired') ?? found[0];
    const last = textOf(sessions.at(-1)?.id);
    if (best !== undefined || last === undefined || sessions.length < 100) return best;
    after = { starting_after: last };
  }
  return undefined;
}

async function getSession(call: Call, id: string): Promise<Json | undefined> {
  if (!isPathPart(id)) return undefined;
  return get(call, `/v1/checkout/sessions/${id}`, { 'expand[]': 'payment_intent' });
}

async function readPayment(call: Call, query: PaymentQuery): Promise<FetchedPayment> {
  const session = await (query.chargeId === null ? findSession(call, query) : getSession(call, query.chargeId));
  if (session === undefined) return { events: [], isFinal: false };
  if (!isPaid(session)) return readUnpaid(session);
  const intent = idOf(session.payment_intent);
  const [refunds, disputes] = intent === undefined ? [[], []] : await readReversals(call, intent);
  const names = { reference: referenceOf(session), chargeId: textOf(session.id) };
  const events = [
    fetched(session, 'completed', sessionEvent(session, 'completed')),
    ...refunds.filter(isDone).map((refund) => fetched(refund, 'refunded', refundEvent(refund, names))),
    ...disputes.flatMap((dispute) => readDispute(dispute, names)),
  ];
  return { events, isFinal: !refunds.some(isRefundOpen) && !disputes.some(isDisputeOpen) };
}

/** The session itself does not tell that a payment by a slow method failed; its payment intent asks for another method. */
function readUnpaid(session: Json): FetchedPayment {
  const intent = objectOf(session.payment_intent);
  const hasFailed =
    session.status === 'complete' && (intent?.status === 'requires_payment_method' || intent?.status === 'canceled');
  if (session.status !== 'expired' && !hasFailed) return { events: [], isFinal: false };
  return { events: [fetched(session, 'failed', sessionEvent(session, 'failed'))], isFinal: true };
}

async function readReversals(call: Call, intent: string): Promise<[readonly Json[], readonly Json[]]> {
  const refunds = await list(call, '/v1/refunds', { payment_intent: intent });
  const disputes = await list(call, '/v1/disputes', { payment_intent: intent });
  return [refunds, disputes];
}

function isDone(refund: Json): boolean {
  return refund.status === 'succeeded';
}

function isRefundOpen(refund: Json): boolean {
  return refund.status === 'pending' || refund.status === 'requires_action';
}

/** A `warning_…` is only a question of the bank: no money moves. */
const DISPUTE_TYPES: ReadonlyMap<unknown, SettlementEvent['type']> = new Map([
  ['needs_response', 'disputed'],
  ['under_review', 'disputed'],
  ['won', 'dispute_won'],
  ['lost', 'dispute_lost'],
]);

/** Only what is true now: a decided dispute is not opened again by hearing of its beginning afterwards. */
function readDispute(dispute: Json, names: Names): FetchedEvent[] {
  const type = DISPUTE_TYPES.get(dispute.status);
  return type === undefined ? [] : [fetched(dispute, type, disputeEvent(dispute, type, names))];
}

function isDisputeOpen({ status }: Json): boolean {
  return DISPUTE_TYPES.get(status) === 'disputed' || (typeof status === 'string' && /^warning_(?!closed)/.test(status));
}

function fetched(object: Json, what: SettlementEvent['type'], event: SettlementEvent): FetchedEvent {
  const dedupeKey = `read:${textOf(object.id)}:${what}`;
  return { kind: 'event', dedupeKey, type: `read.${what}`, event, raw: JSON.stringify(object) };
}

const PATHS_BY_PREFIX: Readonly<Record<string, string>> = {
  pi: '/v1/payment_intents',
  ch: '/v1/charges',
  py: '/v1/charges',
};

async function readReference(call: Call, id: string | undefined): Promise<string | undefined> {
  const path = PATHS_BY_PREFIX[id?.split('_')[0] ?? ''];
  if (id === undefined || path === undefined || !isPathPart(id)) return undefined;
  const object = await get(call, `${path}/${id}`);
  return object === undefined ? undefined : referenceOf(object);
}

/** Looks for the refund before it makes one: Stripe forgets keys after a day, and a refund may be repeated later. */
async function refundSession(call: Call, request: RefundRequest): Promise<RefundAnswer> {
  const intent = idOf((await getSession(call, request.chargeId))?.payment_intent);
  if (intent === undefined) throw new ProviderError('refused', `${NAME}: nothing was paid that could be refunded`);
  const findMade = () => findRefund(call, intent, request.idempotencyKey);
  return refundAnswer((await findMade()) ?? (await postOnce(call, refundPosting(request, intent), findMade)));
}

function refundPosting({ reference, amountMinor, currency, idempotencyKey }: RefundRequest, intent: string): Posting {
  const form = {
    payment_intent: intent,
    amount: stripeAmount(amountMinor, currency),
    'metadata[reference]': reference,
    'metadata[refund_key]': idempotencyKey,
  };
  return { path: '/v1/refunds', form, key: idempotencyKey };
}

async function findRefund(call: Call, intent: string, key: string): Promise<Json | undefined> {
  const refunds = await list(call, '/v1/refunds', { payment_intent: intent });
  return refunds.find((refund) => objectOf(refund.metadata)?.refund_key === key);
}

function refundAnswer(refund: Json): RefundAnswer {
  const refundId = textOf(refund.id);
  if (refundId === undefined) throw new ProviderError('unknown', `${NAME}: a refund without id`);
  if (isDone(refund)) return { status: 'succeeded', refundId };
  return { status: isRefundOpen(refund) ? 'pending' : 'failed', refundId };
}

import { BlockList, isIP, isIPv4 } from 'node:net';
import { sha256Hex } from '../crypto/random.ts';
import { addSeconds } from '../domain/instant.ts';
import { formatAmount } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import {
  type CheckoutRequest,
  type CreatedCheckout,
  type FetchedEvent,
  type FetchedPayment,
  type Hint,
  type PaymentProvider,
  type PaymentQuery,
  ProviderError,
  type RefundAnswer,
  type RefundRequest,
  type VerifiedEvent,
} from './provider.ts';
import { type ProviderHttp, type ProviderRequest, providerHttp } from './provider-http.ts';
import {
  decimalOf,
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

export interface YookassaOptions {
  readonly apiUrl: string;
  readonly shopId: string;
  /** Begins with `test_` in a test shop. */
  readonly secretKey: string;
  /** Addresses and networks that notices come from. */
  readonly webhookIps: readonly string[];
  /** Where the customer returns to when the payment names no page. */
  readonly publicUrl: string;
}

const NAME = 'yookassa';

/**
 * YooKassa. Nothing in a notice is signed: it must come from one of the published addresses, and even then it is only a
 * hint to read the payment back. The charge is the payment there.
 */
export function yookassaProvider(options: YookassaOptions): PaymentProvider {
  const { apiUrl, shopId, secretKey } = options;
  const authorization = `Basic ${Buffer.from(`${shopId}:${secretKey}`).toString('base64')}`;
  const http = providerHttp({ name: NAME, baseUrl: apiUrl, headers: { authorization } });
  const isKnownAddress = compileNetworks(options.webhookIps);
  const isTest = secretKey.startsWith('test_');
  return {
    name: NAME,
    checkoutType: 'redirect',
    currencies: ['RUB'],
    authenticatesBy: 'address',
    verify: ({ raw, remoteAddress }) =>
      isKnownAddress(remoteAddress) ? readNotice(raw) : rejected('the address is none of YooKassa'),
    createCheckout: (request, signal) => createPayment({ http, signal }, request, options.publicUrl),
    fetchPayment: (query, signal) => readPayment({ http, signal, isTest }, query),
    refund: (request, signal) => refundPayment({ http, signal }, request),
  };
}

/** The list understands IPv4 addresses in their IPv6 spellings (`::ffff:77.75.156.11`) by itself. */
function compileNetworks(networks: readonly string[]): (address: string | undefined) => boolean {
  const known = new BlockList();
  for (const network of networks) {
    const [address = '', prefix] = network.split('/');
    const family = isIPv4(address) ? 'ipv4' : 'ipv6';
    known.addSubnet(address, Number(prefix ?? (family === 'ipv4' ? 32 : 128)), family);
  }
  return (address = '') => {
    // A zone (`fe80::1%eth0`) is of this machine, never of a sender.
    if (isIP(address) === 0 || address.includes('%')) return false;
    return known.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
  };
}

/** A notice has no id of its own: the same thing happens to the same object once. */
function readNotice(raw: string): Hint | VerifiedEvent {
  const body = parseObject(raw);
  const type = textOf(body?.event) ?? 'unknown';
  const object = objectOf(body?.object);
  const id = textOf(object?.id);
  if (object === undefined || id === undefined)
    return malformed(`sha256:${sha256Hex(raw)}`, type, 'no object with an id');
  const dedupeKey = `${type}:${id}`;
  if (type.startsWith('payment.')) return hint({ dedupeKey, type, chargeId: id, reference: referenceOf(object) });
  if (!type.startsWith('refund.')) return meaningless(dedupeKey, type);
  const chargeId = textOf(object.payment_id);
  if (chargeId === undefined) return malformed(dedupeKey, type, 'the refund names no payment');
  return hint({ dedupeKey, type, chargeId, refundId: id });
}

function referenceOf(object: Json): string | undefined {
  return textOf(objectOf(object.metadata)?.reference);
}

interface Call {
  readonly http: ProviderHttp;
  readonly signal: AbortSignal;
}

/** Longer keys are refused there. */
const MAX_KEY_LENGTH = 64;

function idempotent(key: string): Readonly<Record<string, string>> {
  return { 'idempotence-key': key.length <= MAX_KEY_LENGTH ? key : sha256Hex(key) };
}

/** @throws ProviderError `unknown` while the service still works on it: the same key asks again */
async function post({ http, signal }: Call, request: Omit<ProviderRequest, 'method'>): Promise<Json> {
  const { status, body } = await http.request({ method: 'POST', ...request }, signal);
  const object = objectOf(body);
  if (status === 202 || object === undefined || object.type === 'processing' || textOf(object.id) === undefined) {
    throw new ProviderError('unknown', `${NAME}: POST is not answered yet`);
  }
  return object;
}

const MAX_DESCRIPTION_LENGTH = 128;

/** A repeat within a day finds its key; the payment itself can be paid for about an hour. */
async function createPayment(call: Call, request: CheckoutRequest, publicUrl: string): Promise<CreatedCheckout> {
  const { reference, amount, currency, title, returnUrl } = request;
  const json = {
    amount: { value: amount, currency },
    capture: true,
    confirmation: { type: 'redirect', return_url: returnUrl ?? publicUrl },
    description: title.slice(0, MAX_DESCRIPTION_LENGTH),
    metadata: { reference },
  };
  const payment = await post(call, { path: '/payments', json, headers: idempotent(reference) });
  const url = objectOf(payment.confirmation)?.confirmation_url;
  if (typeof url !== 'string') throw new ProviderError('refused', `${NAME}: the payment can no longer be paid`);
  return { checkout: { type: 'redirect', url }, chargeId: textOf(payment.id) ?? null };
}

interface ReadCall extends Call {
  readonly isTest: boolean;
}

async function readPayment(call: ReadCall, query: PaymentQuery): Promise<FetchedPayment> {
  const payment = await (query.chargeId === null ? findPayment(call, query) : getPayment(call, query.chargeId));
  // Payments of a test shop bring no money, whatever they say.
  if (payment === undefined || (payment.test === true) !== call.isTest) return { events: [], isFinal: false };
  if (payment.status === 'canceled') return { events: [paymentEvent(payment, 'failed')], isFinal: true };
  // `waiting_for_capture` is a promise: nothing was paid yet, and the bank may take it back.
  if (payment.status !== 'succeeded' || payment.paid !== true) return { events: [], isFinal: false };
  const refunds = await listRefunds(call, textOf(payment.id) ?? '');
  const done = refunds.filter(({ status }) => status === 'succeeded');
  return {
    events: [paymentEvent(payment, 'completed'), ...done.map((refund) => refundEvent(refund, payment))],
    isFinal: !refunds.some(({ status }) => status === 'pending'),
  };
}

/** @returns undefined when there is no such payment */
async function getPayment({ http, signal }: Call, id: string): Promise<Json | undefined> {
  if (!isPathPart(id)) return undefined;
  const { status, body } = await http.request({ method: 'GET', path: `/payments/${id}`, accept: [404] }, signal);
  return status === 404 ? undefined : objectOf(body);
}

/** Between our row and the payment lie a slow call and the difference of two clocks; a day is how long keys live. */
const SEARCH_BEFORE_SECONDS = 300;
const SEARCH_AFTER_SECONDS = 86_400;
const MAX_PAGES = 10;

/** For a payment whose creation was never answered. */
async function findPayment(call: Call, { reference, createdAt }: PaymentQuery): Promise<Json | undefined> {
  const window = {
    'created_at.gte': addSeconds(createdAt, -SEARCH_BEFORE_SECONDS),
    'created_at.lte': addSeconds(createdAt, SEARCH_AFTER_SECONDS),
  };
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const { items, next } = await listPage(call, '/payments', { ...window, cursor });
    const found = items.filter((payment) => referenceOf(payment) === reference);
    const best = found.find(({ status }) => status !== 'canceled') ?? found[0];
    if (best !== undefined || next === undefined) return best;
    cursor = next;
  }
  return undefined;
}

async function listRefunds(call: Call, paymentId: string): Promise<readonly Json[]> {
  return (await listPage(call, '/refunds', { payment_id: paymentId })).items;
}

async function listPage({ http, signal }: Call, path: string, filter: Readonly<Record<string, string | undefined>>) {
  const { body } = await http.request({ method: 'GET', path, query: { limit: '100', ...filter } }, signal);
  const page = objectOf(body);
  return { items: objectsOf(page?.items), next: textOf(page?.next_cursor) };
}

function paymentEvent(payment: Json, what: 'completed' | 'failed'): FetchedEvent {
  const names = { reference: referenceOf(payment), chargeId: textOf(payment.id) };
  return fetched(payment, what, { provider: NAME, type: what, ...names, ...moneyOf(payment) });
}

function refundEvent(refund: Json, payment: Json): FetchedEvent {
  const names = { reference: referenceOf(payment), chargeId: textOf(payment.id), refundId: textOf(refund.id) };
  return fetched(refund, 'refunded', { provider: NAME, type: 'refunded', ...names, ...moneyOf(refund) });
}

function fetched(object: Json, what: SettlementEvent['type'], event: SettlementEvent): FetchedEvent {
  const dedupeKey = `read:${textOf(object.id)}:${what}`;
  return { kind: 'event', dedupeKey, type: `read.${what}`, event, raw: JSON.stringify(object) };
}

function moneyOf(object: Json): Pick<SettlementEvent, 'amountMinor' | 'currency'> {
  const amount = objectOf(object.amount);
  const currency = textOf(amount?.currency)?.toUpperCase();
  return { currency, amountMinor: decimalOf(amount?.value, currency) };
}

/** Looks for the refund before it makes one: keys are forgotten after a day, and a refund may be repeated later. */
async function refundPayment(call: Call, request: RefundRequest): Promise<RefundAnswer> {
  const { chargeId, idempotencyKey } = request;
  const known = (await listRefunds(call, chargeId)).find(
    (refund) => objectOf(refund.metadata)?.refund_key === idempotencyKey,
  );
  return refundAnswer(known ?? (await post(call, refundPost(request))));
}

function refundPost({ reference, chargeId, amountMinor, currency, idempotencyKey }: RefundRequest) {
  const json = {
    payment_id: chargeId,
    amount: { value: formatAmount(amountMinor, currency), currency },
    metadata: { reference, refund_key: idempotencyKey },
  };
  return { path: '/refunds', json, headers: idempotent(idempotencyKey) };
}

function refundAnswer(refund: Json): RefundAnswer {
  const refundId = textOf(refund.id);
  if (refundId === undefined) throw new ProviderError('unknown', `${NAME}: a refund without id`);
  if (refund.status === 'succeeded') return { status: 'succeeded', refundId };
  return { status: refund.status === 'pending' ? 'pending' : 'failed', refundId };
}

import { createHash, createHmac } from 'node:crypto';
import { equalsConstantTime, sha256Hex } from '../crypto/random.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import {
  type CheckoutRequest,
  type CreatedCheckout,
  type Delivery,
  type FetchedPayment,
  type PaymentProvider,
  type PaymentQuery,
  ProviderError,
  type RejectedDelivery,
  type VerifiedEvent,
} from './provider.ts';
import { type ProviderHttp, providerHttp } from './provider-http.ts';
import {
  decimalOf,
  type Json,
  malformed,
  meaningless,
  objectOf,
  objectsOf,
  parseObject,
  rejected,
  textOf,
} from './read.ts';

export interface CryptoPayOptions {
  /** The main network or the test network: each has tokens of its own. */
  readonly apiUrl: string;
  readonly token: string;
}

const NAME = 'crypto_pay';

/** Prices in these are converted by the service when the customer pays; USDT is paid as it is. */
const FIATS = 'USD EUR RUB BYN UAH GBP CNY KZT UZS GEL TRY AMD THB INR BRL IDR AZN AED PLN ILS'.split(' ');
const ASSETS = ['USDT'];

/**
 * Crypto Pay of @CryptoBot. The charge is the invoice. It has no refunds: what must go back is sent by hand and recorded
 * as an outside refund.
 */
export function cryptoPayProvider({ apiUrl, token }: CryptoPayOptions): PaymentProvider {
  const http = providerHttp({ name: NAME, baseUrl: apiUrl, headers: { 'crypto-pay-api-token': token } });
  const key = createHash('sha256').update(token).digest();
  const creating = new Map<string, Promise<CreatedCheckout>>();
  return {
    name: NAME,
    checkoutType: 'redirect',
    currencies: [...ASSETS, ...FIATS],
    authenticatesBy: 'signature',
    verify: (delivery) => checkSignature(delivery, key) ?? readDelivery(delivery.raw),
    createCheckout: (request, signal) =>
      onceAtATime(creating, request.reference, () => createInvoice({ http, signal }, request)),
    fetchPayment: (query, signal) => readPayment({ http, signal }, query),
  };
}

function checkSignature({ raw, headers }: Delivery, key: Buffer): RejectedDelivery | undefined {
  const given = headers['crypto-pay-api-signature'];
  if (!given) return rejected('crypto-pay-api-signature is missing');
  const expected = createHmac('sha256', key).update(raw).digest('hex');
  return equalsConstantTime(given, expected) ? undefined : rejected('the signature does not match');
}

/** Nothing in a delivery says when it was sent, so the invoice and its state are all that tells a repeat. */
function readDelivery(raw: string): VerifiedEvent {
  const body = parseObject(raw);
  const type = textOf(body?.update_type) ?? 'unknown';
  const invoice = objectOf(body?.payload);
  const id = invoice === undefined ? undefined : invoiceId(invoice);
  // `update_id` is not unique, as its documentation says.
  if (invoice === undefined || id === undefined)
    return malformed(`sha256:${sha256Hex(raw)}`, type, 'no invoice with an id');
  const dedupeKey = `${id}:${textOf(invoice.status) ?? 'unknown'}`;
  if (type !== 'invoice_paid' || invoice.status !== 'paid') return meaningless(dedupeKey, type);
  if (textOf(invoice.payload) === undefined) return meaningless(dedupeKey, type);
  return { kind: 'event', dedupeKey, type, event: invoiceEvent(invoice, 'completed') };
}

function invoiceId({ invoice_id: id }: Json): string | undefined {
  return typeof id === 'number' && Number.isSafeInteger(id) && id > 0 ? String(id) : undefined;
}

/** What the invoice asks for, not what was paid for it: that may be another coin at the rate of the moment. */
function invoiceEvent(invoice: Json, type: 'completed' | 'failed'): SettlementEvent {
  const currency = textOf(invoice.currency_type === 'fiat' ? invoice.fiat : invoice.asset)?.toUpperCase();
  return {
    provider: NAME,
    type,
    reference: textOf(invoice.payload),
    chargeId: invoiceId(invoice),
    currency,
    amountMinor: decimalOf(invoice.amount, currency),
  };
}

interface Call {
  readonly http: ProviderHttp;
  readonly signal: AbortSignal;
}

/** Answers travel as `{ ok, result }`; an error is a 4xx, but has been seen with 200. */
function resultOf(body: unknown): Json {
  const answer = objectOf(body);
  if (answer?.ok === false) throw new ProviderError('refused', `${NAME}: the answer is an error`);
  const result = objectOf(answer?.result);
  if (result === undefined) throw new ProviderError('unknown', `${NAME}: an answer without result`);
  return result;
}

/** Two calls for one payment at the same time would both find no invoice, and both make one. */
async function onceAtATime<T>(running: Map<string, Promise<T>>, key: string, start: () => Promise<T>): Promise<T> {
  const current = running.get(key);
  if (current !== undefined) return current;
  const started = start().finally(() => running.delete(key));
  running.set(key, started);
  return started;
}

/** After a day an unpaid invoice is closed; the customer opens a new payment. */
const EXPIRES_IN_SECONDS = 86_400;

/** The service has no idempotency keys: an open invoice with the same reference is what a repeat finds. */
async function createInvoice(call: Call, request: CheckoutRequest): Promise<CreatedCheckout> {
  const known = await findInvoice(call, request, { status: 'active' });
  const invoice = known ?? resultOf((await call.http.request(invoicePost(request), call.signal)).body);
  const [id, url] = [invoiceId(invoice), invoice.bot_invoice_url];
  if (id === undefined || typeof url !== 'string')
    throw new ProviderError('unknown', `${NAME}: an invoice without address`);
  return { checkout: { type: 'redirect', url }, chargeId: id };
}

function invoicePost({ reference, amount, currency, title, returnUrl }: CheckoutRequest) {
  const json = {
    ...unitOf(currency),
    amount,
    description: title.slice(0, 1024),
    payload: reference,
    expires_in: EXPIRES_IN_SECONDS,
    allow_comments: false,
    ...(returnUrl === null ? {} : { paid_btn_name: 'callback', paid_btn_url: returnUrl }),
  };
  return { method: 'POST', path: '/createInvoice', json } as const;
}

function unitOf(currency: string): { currency_type: string; asset?: string; fiat?: string } {
  if (ASSETS.includes(currency)) return { currency_type: 'crypto', asset: currency };
  return { currency_type: 'fiat', fiat: currency };
}

const PAGE_SIZE = 100;
const MAX_PAGES = 10;

/** By reference, among all invoices of the currency. */
async function findInvoice(
  call: Call,
  { reference, currency }: { readonly reference: string; readonly currency: string },
  filter: Readonly<Record<string, string>>,
): Promise<Json | undefined> {
  const { asset, fiat } = unitOf(currency);
  for (let page = 0; page < MAX_PAGES; page++) {
    const paging = { count: String(PAGE_SIZE), offset: String(page * PAGE_SIZE) };
    const invoices = await listInvoices(call, { asset, fiat, ...filter, ...paging });
    const found = invoices.filter((invoice) => invoice.payload === reference);
    const best =
      found.find(({ status }) => status === 'paid') ?? found.find(({ status }) => status === 'active') ?? found[0];
    if (best !== undefined || invoices.length < PAGE_SIZE) return best;
  }
  return undefined;
}

async function listInvoices(
  { http, signal }: Call,
  query: Readonly<Record<string, string | undefined>>,
): Promise<readonly Json[]> {
  const { body } = await http.request({ method: 'GET', path: '/getInvoices', query }, signal);
  return objectsOf(resultOf(body).items);
}

async function readPayment(call: Call, query: PaymentQuery): Promise<FetchedPayment> {
  const invoice = await (query.chargeId === null ? findInvoice(call, query, {}) : getInvoice(call, query.chargeId));
  const what = invoice?.status === 'paid' ? 'completed' : invoice?.status === 'expired' ? 'failed' : undefined;
  if (invoice === undefined || what === undefined) return { events: [], isFinal: false };
  const dedupeKey = `read:${invoiceId(invoice)}:${what}`;
  const event = invoiceEvent(invoice, what);
  const raw = JSON.stringify(invoice);
  return { events: [{ kind: 'event', dedupeKey, type: `read.${what}`, event, raw }], isFinal: true };
}

async function getInvoice(call: Call, id: string): Promise<Json | undefined> {
  if (!/^[1-9]\d{0,15}$/.test(id)) return undefined;
  const invoices = await listInvoices(call, { invoice_ids: id });
  return invoices.find((invoice) => invoiceId(invoice) === id);
}

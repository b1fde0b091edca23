import { equalsConstantTime, sha256Hex } from '../crypto/random.ts';
import type { AmountMinor } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import {
  type Checkout,
  type CheckoutRequest,
  type Delivery,
  type FetchedEvent,
  type FetchedPayment,
  type PaymentProvider,
  ProviderError,
  type RefundAnswer,
  type RefundRequest,
  type Verdict,
} from './provider.ts';
import { type ProviderHttp, providerHttp } from './provider-http.ts';
import { hint, type Json, malformed, objectOf, parseObject, rejected, textOf } from './read.ts';
import { StarLedger, type StarTransaction, transactionsOf } from './star-ledger.ts';

export interface TelegramStarsOptions {
  readonly apiUrl: string;
  readonly botToken: string;
  /** What Telegram, or the bot that forwards its updates, sends as `X-Telegram-Bot-Api-Secret-Token`. */
  readonly webhookSecret: string;
}

const NAME = 'telegram_stars';
const CURRENCY = 'XTR';
/** What the Bot API takes for an invoice. */
const MAX_TITLE = 32;
const MAX_DESCRIPTION = 255;
/** Links of the last payments: a repeat within minutes needs no second one. */
const MAX_LINKS = 500;

/**
 * Telegram Stars. The charge is `telegram_payment_charge_id`, and each renewal is a charge of its own. An update proves
 * only that somebody knows the secret, so what it says is read back from the bot's account before anything is granted.
 */
export function telegramStarsProvider({ apiUrl, botToken, webhookSecret }: TelegramStarsOptions): PaymentProvider {
  const http = providerHttp({ name: NAME, baseUrl: `${apiUrl}/bot${botToken}` });
  const ledger = new StarLedger(async (offset, limit, signal) => {
    const query = { offset: String(offset), limit: String(limit) };
    const { body } = await http.request({ method: 'GET', path: '/getStarTransactions', query }, signal);
    return transactionsOf(resultOf(body));
  });
  const links = new Map<string, Promise<Checkout>>();
  return {
    name: NAME,
    checkoutType: 'telegram_invoice',
    currencies: [CURRENCY],
    authenticatesBy: 'secret',
    verify: (delivery) => checkSecret(delivery, webhookSecret) ?? readUpdate(delivery.raw),
    createCheckout: async (request, signal) => ({
      checkout: await remembered(links, request.reference, () => createLink({ http, signal }, request)),
      chargeId: null,
    }),
    fetchPayment: async (query, signal) => readPayment(await ledger.find(query, signal)),
    refund: (request, signal) => refundCharge({ http, signal }, request),
    answerQuestion: async (id, refusal, signal) => {
      const answer = refusal === undefined ? { ok: true } : { ok: false, error_message: refusal };
      const json = { pre_checkout_query_id: id, ...answer };
      await http.request({ method: 'POST', path: '/answerPreCheckoutQuery', json }, signal);
    },
  };
}

function checkSecret({ headers }: Delivery, secret: string): Verdict | undefined {
  const given = headers['x-telegram-bot-api-secret-token'];
  if (!given) return rejected('x-telegram-bot-api-secret-token is missing');
  return equalsConstantTime(given, secret) ? undefined : rejected('the secret token does not match');
}

function readUpdate(raw: string): Verdict {
  const update = parseObject(raw);
  if (update === undefined) return malformed(`sha256:${sha256Hex(raw)}`, 'unknown', 'the body is not a JSON object');
  const question = objectOf(update.pre_checkout_query);
  if (question !== undefined) return readQuestion(raw, question);
  const message = objectOf(update.message);
  const paid = objectOf(message?.successful_payment);
  if (paid !== undefined) return readNotice(raw, 'successful_payment', paid);
  const refunded = objectOf(message?.refunded_payment);
  return refunded === undefined ? { kind: 'unrelated' } : readNotice(raw, 'refunded_payment', refunded);
}

function readQuestion(raw: string, question: Json): Verdict {
  const questionId = textOf(question.id);
  const amountMinor = starsOf(question.total_amount);
  if (questionId === undefined || amountMinor === undefined) {
    return malformed(`sha256:${sha256Hex(raw)}`, 'pre_checkout_query', 'no id or no amount');
  }
  const payer = objectOf(question.from)?.id;
  return {
    kind: 'question',
    questionId,
    reference: textOf(question.invoice_payload) ?? '',
    amountMinor,
    currency: textOf(question.currency) ?? '',
    payerId: typeof payer === 'number' ? String(payer) : undefined,
  };
}

function readNotice(raw: string, type: 'successful_payment' | 'refunded_payment', notice: Json): Verdict {
  // Money in other currencies comes by other providers of Telegram and is none of ours.
  if (notice.currency !== CURRENCY) return { kind: 'unrelated' };
  const chargeId = textOf(notice.telegram_payment_charge_id);
  if (chargeId === undefined) return malformed(`sha256:${sha256Hex(raw)}`, type, 'no charge id');
  const refundId = type === 'refunded_payment' ? { refundId: chargeId } : {};
  return hint({
    dedupeKey: `${type}:${chargeId}`,
    type,
    reference: textOf(notice.invoice_payload),
    chargeId,
    ...refundId,
  });
}

function starsOf(value: unknown): AmountMinor | undefined {
  return Number.isSafeInteger(value) && (value as number) > 0 ? (value as AmountMinor) : undefined;
}

interface Call {
  readonly http: ProviderHttp;
  readonly signal: AbortSignal;
}

function resultOf(body: unknown): Json {
  const result = objectOf(objectOf(body)?.result);
  if (result === undefined) throw new ProviderError('unavailable', `${NAME}: an answer without result`);
  return result;
}

/** Links to one payload are one invoice to us, so a lost answer costs nothing but a second link. */
async function createLink({ http, signal }: Call, request: CheckoutRequest): Promise<Checkout> {
  const { reference, amountMinor, title, description } = request;
  const json = {
    title: title.slice(0, MAX_TITLE),
    description: (description ?? title).slice(0, MAX_DESCRIPTION),
    payload: reference,
    currency: CURRENCY,
    prices: [{ label: title.slice(0, MAX_TITLE), amount: amountMinor }],
  };
  const { body } = await http.request({ method: 'POST', path: '/createInvoiceLink', json }, signal);
  const link = objectOf(body)?.result;
  if (typeof link !== 'string') throw new ProviderError('unknown', `${NAME}: an answer without link`);
  return { type: 'telegram_invoice', link, payload: reference, title, amount: amountMinor, currency: CURRENCY };
}

/** Calls at the same time share one answer; one that failed is not kept. */
function remembered<T>(known: Map<string, Promise<T>>, key: string, start: () => Promise<T>): Promise<T> {
  const running = known.get(key);
  if (running !== undefined) return running;
  const started = start();
  known.set(key, started);
  started.catch(() => known.delete(key));
  const [oldest] = known.keys();
  if (known.size > MAX_LINKS && oldest !== undefined) known.delete(oldest);
  return started;
}

/**
 * The first charge is the payment; of a subscription every later one is a renewal. Invoices do not expire. The payment of
 * a charge that a bot took by an invoice of its own is known by the charge, and what its invoice names is said with it.
 */
function readPayment(found: readonly StarTransaction[]): FetchedPayment {
  const charges = found.filter(({ direction }) => direction === 'in');
  const references = new Map(charges.map(({ id, reference }) => [id, textOf(reference)]));
  const events = found.map((entry) =>
    entry.direction === 'in'
      ? readBack('completed', references, entry, { renewal: entry !== charges[0] && entry.isRecurring })
      : readBack('refunded', references, entry, { refundId: entry.id }),
  );
  return { events, isFinal: charges.length > 0 };
}

function readBack(
  type: 'completed' | 'refunded',
  references: ReadonlyMap<string, string | undefined>,
  { id, amount, payerId, raw }: StarTransaction,
  more: Partial<SettlementEvent>,
): FetchedEvent {
  const reference = references.get(id);
  const money = { chargeId: id, amountMinor: amount as AmountMinor, currency: CURRENCY };
  const payer = type === 'completed' && payerId !== undefined ? { payerId } : {};
  const { renewal, ...rest } = more;
  const event = { provider: NAME, type, reference, ...money, ...payer, ...rest, ...(renewal ? { renewal } : {}) };
  return { kind: 'event', dedupeKey: `read:${id}:${type}`, type: `read.${type}`, event, raw };
}

/** Stars go back as a whole. What went back before counts as done: Telegram says so with an error. */
async function refundCharge({ http, signal }: Call, request: RefundRequest): Promise<RefundAnswer> {
  const { chargeId, payerId, isWhole } = request;
  if (!isWhole) throw new ProviderError('refused', `${NAME}: only the whole payment can be refunded`);
  if (payerId === null) throw new ProviderError('refused', `${NAME}: the payer of the charge is not known`);
  const json = { user_id: Number(payerId), telegram_payment_charge_id: chargeId };
  const answer = await http.request({ method: 'POST', path: '/refundStarPayment', json, accept: [400] }, signal);
  const { ok, description } = objectOf(answer.body) ?? {};
  const isDone = ok === true || (typeof description === 'string' && description.includes('CHARGE_ALREADY_REFUNDED'));
  if (!isDone) throw new ProviderError('refused', `${NAME}: the refund was refused`);
  return { status: 'succeeded', refundId: chargeId };
}

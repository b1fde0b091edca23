import type { Remote } from '../../../src/pay/conformance.ts';
import type { Delivery } from '../../../src/pay/provider.ts';
import { type FakeAnswer, type FakeRequest, FakeServer, type HeldAnswer, underFault } from './fake-server.ts';

export interface TelegramFakeOptions {
  readonly botToken: string;
  readonly webhookSecret: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

interface Transaction {
  readonly id: string;
  readonly amount: number;
  readonly date: number;
  readonly source?: Readonly<Record<string, unknown>>;
  readonly receiver?: Readonly<Record<string, unknown>>;
}

export interface PreCheckoutAnswer {
  readonly pre_checkout_query_id: string;
  readonly ok: boolean;
  readonly error_message?: string;
}

export interface TelegramFake extends Omit<Required<Remote>, 'expire' | 'forgetKeys'>, AsyncDisposable {
  readonly url: string;
  readonly requests: readonly FakeRequest[];
  /** Keeps back the answer to the next request of that method. */
  hold(method: 'GET' | 'POST'): HeldAnswer;
  /** What the bot answered to questions, in order. */
  readonly answers: readonly PreCheckoutAnswer[];
  /** Any update, as a webhook sends it. */
  deliver(update: Readonly<Record<string, unknown>>): Delivery;
  /** The customer presses "Pay": the question comes before the money. */
  ask(reference: string, changes?: Readonly<Record<string, unknown>>): Delivery;
  /** Telegram takes the next month of a subscription. */
  renew(reference: string): readonly Delivery[];
  /** An invoice that the bot makes by itself, instead of ours if it has the payload of one. */
  invoice(payload: string, amount: number): void;
  /** Something on the account that no customer paid. */
  withdraw(amount: number): void;
}

/** The customer of the fake. */
export const TELEGRAM_PAYER = 77_001;

const DONE: FakeAnswer = { status: 200, body: { ok: true, result: true } };

function badRequest(what: string): FakeAnswer {
  return { status: 400, body: { ok: false, error_code: 400, description: `Bad Request: ${what}` } };
}

/** The Bot API as far as Stars go: links, questions, one list of transactions from the first on, refunds as a whole. */
export async function startTelegram({ botToken, webhookSecret, now }: TelegramFakeOptions): Promise<TelegramFake> {
  const invoices = new Map<string, { readonly amount: number; readonly links: string[] }>();
  const transactions: Transaction[] = [];
  const questions = new Set<string>();
  const answers: PreCheckoutAnswer[] = [];
  let serial = 0;
  const user = { id: TELEGRAM_PAYER, is_bot: false, first_name: 'Payer' };
  const seconds = () => Math.floor(now() / 1000);

  function deliver(update: Readonly<Record<string, unknown>>): Delivery {
    const raw = JSON.stringify({ update_id: ++serial, ...update });
    return { raw, headers: { 'x-telegram-bot-api-secret-token': webhookSecret }, remoteAddress: '149.154.167.220' };
  }

  function message(fields: Readonly<Record<string, unknown>>): Delivery {
    const chat = { id: user.id, type: 'private', first_name: user.first_name };
    return deliver({ message: { message_id: ++serial, from: user, chat, date: seconds(), ...fields } });
  }

  function invoiceOf(reference: string) {
    const invoice = invoices.get(reference);
    if (invoice === undefined) throw new Error(`no invoice for ${reference}`);
    return invoice;
  }

  function charge(reference: string, more: Readonly<Record<string, unknown>> = {}): Delivery {
    const { amount } = invoiceOf(reference);
    const id = `stx${String(++serial).padStart(6, '0')}`;
    const source = { type: 'user', transaction_type: 'invoice_payment', user, invoice_payload: reference, ...more };
    transactions.push({ id, amount, date: seconds(), source });
    const paid = { currency: 'XTR', total_amount: amount, invoice_payload: reference };
    const names = { telegram_payment_charge_id: id, provider_payment_charge_id: `${id}_p` };
    return message({ successful_payment: { ...paid, ...names } });
  }

  function createLink(body: Record<string, unknown>): FakeAnswer {
    const { title, description, payload, currency, prices } = body;
    const [price, ...others] = Array.isArray(prices) ? (prices as { label?: unknown; amount?: unknown }[]) : [];
    const isText = (text: unknown, most: number) => typeof text === 'string' && text.length > 0 && text.length <= most;
    if (!isText(title, 32) || !isText(description, 255)) return badRequest('title or description is invalid');
    if (!isText(payload, 128)) return badRequest('INVOICE_PAYLOAD_INVALID');
    if (currency !== 'XTR' || others.length > 0 || typeof price?.amount !== 'number') return badRequest('prices');
    const link = `https://t.me/$${String(++serial)}`;
    const invoice = invoices.get(payload as string) ?? { amount: price.amount, links: [] };
    invoice.links.push(link);
    invoices.set(payload as string, invoice);
    return { status: 200, body: { ok: true, result: link } };
  }

  function payBack(id: unknown, userId: unknown): FakeAnswer {
    const paid = transactions.find((transaction) => transaction.id === id && transaction.source !== undefined);
    if (paid === undefined || userId !== TELEGRAM_PAYER) return badRequest('CHARGE_NOT_FOUND');
    const isBack = transactions.some((transaction) => transaction.id === id && transaction.receiver !== undefined);
    if (isBack) return badRequest('CHARGE_ALREADY_REFUNDED');
    const receiver = { type: 'user', transaction_type: 'invoice_payment', user };
    transactions.push({ id: paid.id, amount: paid.amount, date: seconds(), receiver });
    return DONE;
  }

  function answer(body: Record<string, unknown>): FakeAnswer {
    const { pre_checkout_query_id: id, ok } = body;
    if (typeof ok !== 'boolean' || (!ok && typeof body.error_message !== 'string')) return badRequest('no answer');
    if (!questions.delete(String(id))) return badRequest('query is too old and response timeout expired');
    answers.push(body as unknown as PreCheckoutAnswer);
    return DONE;
  }

  function list(query: URLSearchParams): FakeAnswer {
    const [offset, limit] = [Number(query.get('offset') ?? 0), Number(query.get('limit') ?? 100)];
    if (limit < 1 || limit > 100) return badRequest('limit');
    return { status: 200, body: { ok: true, result: { transactions: transactions.slice(offset, offset + limit) } } };
  }

  function handle({ path, query, body }: FakeRequest, fault: Parameters<typeof underFault>[0]): FakeAnswer {
    const method = path.split('/')[2];
    if (path !== `/bot${botToken}/${method}`) {
      return { status: 401, body: { ok: false, error_code: 401, description: 'Unauthorized' } };
    }
    return underFault(fault, () => {
      if (method === 'getStarTransactions') return list(query);
      const fields = JSON.parse(body) as Record<string, unknown>;
      if (method === 'createInvoiceLink') return createLink(fields);
      if (method === 'answerPreCheckoutQuery') return answer(fields);
      return payBack(fields.telegram_payment_charge_id, fields.user_id);
    });
  }

  const chargesOf = (reference: string) =>
    transactions.filter(({ source }) => source?.invoice_payload === reference).map(({ id }) => id);

  const server = await new FakeServer(handle).listen();
  return {
    url: server.url,
    requests: server.requests,
    answers,
    fail: (fault, method) => server.fail(fault, method),
    recover: () => server.recover(),
    hold: (method) => server.hold(method),
    close: () => server.close(),
    [Symbol.asyncDispose]: () => server.close(),
    deliver,
    ask: (reference, changes = {}) => {
      const id = `q${++serial}`;
      questions.add(id);
      const asked = { currency: 'XTR', total_amount: invoiceOf(reference).amount, invoice_payload: reference };
      return deliver({ pre_checkout_query: { id, from: user, ...asked, ...changes } });
    },
    // Links with one payload are one invoice to us: the question before the money lets only one of them be paid.
    checkouts: (reference) => (invoices.has(reference) ? 1 : 0),
    pay: (reference) => [charge(reference)],
    renew: (reference) => [charge(reference, { subscription_period: 2_592_000 })],
    invoice: (payload, amount) => void invoices.set(payload, { amount, links: [] }),
    withdraw: (amount) => {
      const receiver = { type: 'fragment' };
      transactions.push({ id: `w${++serial}`, amount, date: seconds(), receiver });
    },
    refund: (reference) => {
      const [id] = chargesOf(reference);
      payBack(id, TELEGRAM_PAYER);
      const paid = { currency: 'XTR', total_amount: invoiceOf(reference).amount, invoice_payload: reference };
      return [message({ refunded_payment: { ...paid, telegram_payment_charge_id: id } })];
    },
    refunds: (reference) => {
      const charges = new Set(chargesOf(reference));
      return transactions.filter(({ id, receiver }) => receiver !== undefined && charges.has(id)).map(({ id }) => id);
    },
  };
}

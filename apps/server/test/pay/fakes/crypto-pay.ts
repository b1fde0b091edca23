import { createHash, createHmac } from 'node:crypto';
import type { Remote } from '../../../src/pay/conformance.ts';
import type { Delivery } from '../../../src/pay/provider.ts';
import { type FakeAnswer, type FakeRequest, FakeServer, failure, type HeldAnswer, underFault } from './fake-server.ts';

export type Invoice = Record<string, unknown> & { readonly invoice_id: number };

export interface CryptoPayFakeOptions {
  readonly token: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export interface CryptoPayFake extends Remote, AsyncDisposable {
  readonly url: string;
  readonly requests: readonly FakeRequest[];
  /** Keeps back the answer to the next request of that method. */
  hold(method: 'GET' | 'POST'): HeldAnswer;
  /** Any update, signed. */
  deliver(type: string, payload: Record<string, unknown>): Delivery;
}

/** Crypto Pay: invoices without idempotency keys, deliveries without a time that is checked, and no refunds. */
export async function startCryptoPay({ token, now }: CryptoPayFakeOptions): Promise<CryptoPayFake> {
  const invoices: Invoice[] = [];
  const key = createHash('sha256').update(token).digest();
  const time = () => new Date(now()).toISOString();

  function deliver(update_type: string, payload: Record<string, unknown>): Delivery {
    // Not unique, as its documentation warns.
    const raw = JSON.stringify({ update_id: 1, update_type, request_date: time(), payload });
    const signature = createHmac('sha256', key).update(raw).digest('hex');
    return { raw, headers: { 'crypto-pay-api-signature': signature }, remoteAddress: '127.0.0.1' };
  }

  function create(body: Record<string, unknown>): FakeAnswer {
    const { currency_type, asset, fiat, amount, payload, description } = body;
    const isPriced = currency_type === 'crypto' ? typeof asset === 'string' : typeof fiat === 'string';
    if (!isPriced || typeof amount !== 'string' || !/^\d+(\.\d+)?$/.test(amount)) return failure(400);
    const invoice_id = invoices.length + 1;
    const invoice = {
      ...{ invoice_id, hash: `IV${invoice_id}`, currency_type, asset, fiat, payload, description, status: 'active' },
      // Printed as it counts: padded for coins, as short as possible for money.
      amount: currency_type === 'crypto' ? Number(amount).toFixed(8) : String(Number(amount)),
      ...{ bot_invoice_url: `https://t.me/CryptoBot?start=IV${invoice_id}`, created_at: time() },
    };
    invoices.push(invoice);
    return { status: 200, body: { ok: true, result: invoice } };
  }

  function list(query: URLSearchParams): FakeAnswer {
    const ids = query.get('invoice_ids')?.split(',');
    const found = invoices
      .toReversed()
      .filter(({ invoice_id }) => ids?.includes(String(invoice_id)) ?? true)
      .filter(({ status }) => status === (query.get('status') ?? status))
      .filter(({ asset }) => asset === (query.get('asset') ?? asset))
      .filter(({ fiat }) => fiat === (query.get('fiat') ?? fiat));
    const offset = Number(query.get('offset') ?? 0);
    const items = found.slice(offset, offset + Number(query.get('count') ?? 100));
    return { status: 200, body: { ok: true, result: { items } } };
  }

  function handle(request: FakeRequest, fault: Parameters<typeof underFault>[0]): FakeAnswer {
    if (request.headers['crypto-pay-api-token'] !== token) return failure(401);
    return underFault(fault, () => {
      if (request.path === '/getInvoices') return list(request.query);
      return request.path === '/createInvoice'
        ? create(JSON.parse(request.body) as Record<string, unknown>)
        : failure(405);
    });
  }

  const invoiceOf = (reference: string) => {
    const invoice = invoices.findLast(({ payload }) => payload === reference);
    if (invoice === undefined) throw new Error(`no invoice for ${reference}`);
    return invoice;
  };

  const server = await new FakeServer(handle).listen();
  return {
    url: server.url,
    requests: server.requests,
    fail: (fault, method) => server.fail(fault, method),
    recover: () => server.recover(),
    hold: (method) => server.hold(method),
    close: () => server.close(),
    [Symbol.asyncDispose]: () => server.close(),
    deliver,
    checkouts: (reference) => invoices.filter(({ payload }) => payload === reference).length,
    pay: (reference) => {
      const paid = { status: 'paid', paid_asset: 'TON', paid_amount: '93.12000000', paid_at: time() };
      return [deliver('invoice_paid', Object.assign(invoiceOf(reference), paid))];
    },
    expire: (reference) => {
      Object.assign(invoiceOf(reference), { status: 'expired' });
      return [];
    },
  };
}

import type { Fault, Remote } from '../../../src/pay/conformance.ts';
import type { Delivery } from '../../../src/pay/provider.ts';
import { type FakeAnswer, type FakeRequest, FakeServer, failure, type HeldAnswer, underFault } from './fake-server.ts';

type YookassaObject = Record<string, unknown> & { readonly id: string };

export interface YookassaFakeOptions {
  readonly shopId: string;
  readonly secretKey: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Where its notices come from. */
  readonly address?: string;
}

export interface YookassaFake extends Remote, AsyncDisposable {
  readonly url: string;
  readonly requests: readonly FakeRequest[];
  /** Keeps back the answer to the next request of that method. */
  hold(method: 'GET' | 'POST'): HeldAnswer;
  /** Changes the payment behind a reference, as nothing in the API would. */
  change(reference: string, fields: Record<string, unknown>): void;
  notify(event: string, object: Record<string, unknown>): Delivery;
  /** The next creations are answered with "processing" and made all the same. */
  process(): void;
  /** The next refunds stay pending until `finishRefunds`. */
  holdRefunds(): void;
  finishRefunds(status: 'succeeded' | 'canceled'): readonly Delivery[];
}

/** YooKassa: notices that nobody signs, and keys that repeat the first result for a day. */
export async function startYookassa(options: YookassaFakeOptions): Promise<YookassaFake> {
  const { shopId, secretKey, now, address = '185.71.76.1' } = options;
  const authorization = `Basic ${Buffer.from(`${shopId}:${secretKey}`).toString('base64')}`;
  const payments: YookassaObject[] = [];
  const refunds: YookassaObject[] = [];
  const byKey = new Map<string, YookassaObject>();
  let count = 0;
  let refundStatus = 'succeeded';
  let isProcessing = false;

  const newId = (kind: string) => `2d1f0a5e-000f-5000-${kind}-${String(++count).padStart(12, '0')}`;
  const time = () => new Date(now()).toISOString();
  const paymentOf = (reference: string) => {
    const payment = payments.findLast((each) => referenceOf(each) === reference);
    if (payment === undefined) throw new Error(`no payment for ${reference}`);
    return payment;
  };

  function notify(event: string, object: Record<string, unknown>): Delivery {
    const raw = JSON.stringify({ type: 'notification', event, object });
    return { raw, headers: { 'content-type': 'application/json' }, remoteAddress: address };
  }

  function createPayment(body: Record<string, unknown>): YookassaObject | FakeAnswer {
    const { amount, metadata, confirmation } = body as Record<string, Record<string, unknown> | undefined>;
    if (minorOf(amount) === undefined || confirmation?.return_url === undefined) return failure(400);
    const id = newId('9000');
    const url = `https://yoomoney.example/checkout?orderId=${id}`;
    const payment = {
      ...{
        id,
        status: 'pending',
        paid: false,
        amount,
        metadata,
        created_at: time(),
        test: secretKey.startsWith('test_'),
      },
      confirmation: { type: 'redirect', confirmation_url: url },
    };
    payments.push(payment);
    return payment;
  }

  function createRefund(body: Record<string, unknown>): YookassaObject | FakeAnswer {
    const payment = payments.find(({ id }) => id === body.payment_id);
    const already = refunds
      .filter((refund) => refund.payment_id === payment?.id && refund.status !== 'canceled')
      .reduce((sum, refund) => sum + (minorOf(refund.amount) ?? 0), 0);
    const minor = minorOf(body.amount);
    const paid = payment?.status === 'succeeded' ? (minorOf(payment.amount) ?? 0) : 0;
    if (minor === undefined || minor <= 0 || already + minor > paid) return failure(400);
    const refund = { id: newId('8000'), ...body, status: refundStatus, created_at: time() };
    refunds.push(refund);
    return refund;
  }

  function once(request: FakeRequest, work: () => YookassaObject | FakeAnswer): FakeAnswer {
    const key = request.headers['idempotence-key'];
    if (typeof key !== 'string' || key.length > 64) return failure(400);
    const made = byKey.get(key) ?? work();
    if ('body' in made) return made as FakeAnswer;
    byKey.set(key, made as YookassaObject);
    if (!isProcessing) return { status: 200, body: made };
    isProcessing = false;
    return { status: 202, body: { type: 'processing', description: 'in progress', retry_after: 1800 } };
  }

  const PAGE = 100;
  function list(query: URLSearchParams): FakeAnswer {
    const start = Number(query.get('cursor') ?? 0);
    const found = payments
      .toReversed()
      .filter(({ created_at }) => String(created_at) >= (query.get('created_at.gte') ?? ''))
      .filter(({ created_at }) => String(created_at) <= (query.get('created_at.lte') ?? '~'));
    const next = found.length > start + PAGE ? { next_cursor: String(start + PAGE) } : {};
    return { status: 200, body: { type: 'list', items: found.slice(start, start + PAGE), ...next } };
  }

  function get({ path, query }: FakeRequest): FakeAnswer {
    if (path === '/payments') return list(query);
    if (path === '/refunds') {
      const items = refunds.filter(({ payment_id }) => payment_id === query.get('payment_id'));
      return { status: 200, body: { type: 'list', items } };
    }
    const payment = payments.find(({ id }) => path === `/payments/${id}`);
    return payment === undefined ? failure(404, { code: 'not_found' }) : { status: 200, body: payment };
  }

  function handle(request: FakeRequest, fault: Fault | undefined): FakeAnswer {
    if (request.headers.authorization !== authorization) return failure(401);
    return underFault(fault, () => {
      if (request.method === 'GET') return get(request);
      const body = JSON.parse(request.body) as Record<string, unknown>;
      return once(request, () => (request.path === '/refunds' ? createRefund(body) : createPayment(body)));
    });
  }

  const server = await new FakeServer(handle).listen();
  return {
    url: server.url,
    requests: server.requests,
    fail: (fault, method) => server.fail(fault, method),
    recover: () => server.recover(),
    hold: (method) => server.hold(method),
    close: () => server.close(),
    [Symbol.asyncDispose]: () => server.close(),
    notify,
    change: (reference, fields) => void Object.assign(paymentOf(reference), fields),
    process: () => {
      isProcessing = true;
    },
    checkouts: (reference) => payments.filter((payment) => referenceOf(payment) === reference).length,
    pay: (reference) => {
      const paid = { status: 'succeeded', paid: true, captured_at: time(), confirmation: undefined };
      return [notify('payment.succeeded', Object.assign(paymentOf(reference), paid))];
    },
    expire: (reference) => {
      const canceled = {
        status: 'canceled',
        cancellation_details: { party: 'yoo_money', reason: 'expired_on_confirmation' },
      };
      return [notify('payment.canceled', Object.assign(paymentOf(reference), canceled))];
    },
    forgetKeys: () => byKey.clear(),
    refund: (reference, minor) => {
      const amount = { value: (minor / 100).toFixed(2), currency: 'RUB' };
      const refund = createRefund({ payment_id: paymentOf(reference).id, amount });
      return [notify('refund.succeeded', refund as YookassaObject)];
    },
    refunds: (reference) =>
      refunds.filter(({ payment_id }) => payment_id === paymentOf(reference).id).map(({ id }) => id),
    holdRefunds: () => {
      refundStatus = 'pending';
    },
    finishRefunds: (status) => {
      refundStatus = 'succeeded';
      const open = refunds.filter((refund) => refund.status === 'pending');
      const finished = open.map((refund) => Object.assign(refund, { status }));
      return status === 'succeeded' ? finished.map((refund) => notify('refund.succeeded', refund)) : [];
    },
  };
}

function referenceOf({ metadata }: YookassaObject): unknown {
  return (metadata as Record<string, unknown> | undefined)?.reference;
}

function minorOf(amount: unknown): number | undefined {
  const { value, currency } = (amount ?? {}) as Record<string, unknown>;
  const isRubles = typeof value === 'string' && /^\d+\.\d{2}$/.test(value) && currency === 'RUB';
  return isRubles ? Number(value.replace('.', '')) : undefined;
}

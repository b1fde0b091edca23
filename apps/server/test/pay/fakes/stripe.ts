import { createHmac } from 'node:crypto';
import type { Fault, Remote } from '../../../src/pay/conformance.ts';
import type { Delivery } from '../../../src/pay/provider.ts';
import { type FakeAnswer, type FakeRequest, FakeServer, failure, type HeldAnswer } from './fake-server.ts';

type StripeObject = Record<string, unknown> & { readonly id: string };

export interface StripeFakeOptions {
  readonly secretKey: string;
  readonly webhookSecret: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export interface StripeFake extends Remote, AsyncDisposable {
  readonly url: string;
  readonly requests: readonly FakeRequest[];
  /** Keeps back the answer to the next request of that method. */
  hold(method: 'GET' | 'POST'): HeldAnswer;
  /** A method that takes days: the session is complete and unpaid. */
  payLater(reference: string): readonly Delivery[];
  /** What came of {@link payLater}. */
  decideLater(reference: string, result: 'paid' | 'failed'): readonly Delivery[];
  /** Opens a dispute, or moves the open one on. */
  dispute(reference: string, status: string): readonly Delivery[];
  /** The next refunds stay pending until `finishRefunds`. */
  holdRefunds(): void;
  finishRefunds(status: 'succeeded' | 'failed'): readonly Delivery[];
  /** Any event, signed. */
  deliver(type: string, object: Record<string, unknown>, fields?: Record<string, unknown>): Delivery;
}

interface Saved {
  readonly parameters: string;
  readonly answer: FakeAnswer;
}

/** Stripe as far as Checkout needs it: sessions, payment intents, charges, refunds, disputes, keys that save failures. */
export async function startStripe(options: StripeFakeOptions): Promise<StripeFake> {
  const { secretKey, webhookSecret, now } = options;
  const isLive = /^[sr]k_live_/.test(secretKey);
  const sessions: StripeObject[] = [];
  const intents = new Map<string, StripeObject>();
  const charges = new Map<string, StripeObject>();
  const refunds: StripeObject[] = [];
  const disputes: StripeObject[] = [];
  const saved = new Map<string, Saved>();
  let count = 0;
  let refundStatus = 'succeeded';

  const seconds = () => Math.floor(now() / 1000);
  const newId = (prefix: string) => `${prefix}_${isLive ? 'live' : 'test'}_${String(++count).padStart(6, '0')}`;
  const sessionOf = (reference: string) => {
    const open = sessions.filter((session) => session.client_reference_id === reference);
    const session = open.at(-1);
    if (session === undefined) throw new Error(`no session for ${reference}`);
    return session;
  };
  const intentOf = (reference: string) => intents.get(String(sessionOf(reference).payment_intent));
  const chargeOf = (reference: string) => charges.get(String(intentOf(reference)?.latest_charge));

  function deliver(type: string, object: Record<string, unknown>, fields: Record<string, unknown> = {}): Delivery {
    const event = { id: newId('evt'), object: 'event', type, created: seconds(), livemode: isLive, data: { object } };
    const raw = JSON.stringify({ ...event, ...fields });
    const signature = createHmac('sha256', webhookSecret).update(`${seconds()}.${raw}`).digest('hex');
    return { raw, headers: { 'stripe-signature': `t=${seconds()},v1=${signature}` }, remoteAddress: '3.18.12.63' };
  }

  function createSession(form: URLSearchParams): FakeAnswer {
    const amount = Number(form.get('line_items[0][price_data][unit_amount]'));
    const name = form.get('line_items[0][price_data][product_data][name]');
    const isComplete = form.get('mode') === 'payment' && form.get('success_url') && name && Number.isInteger(amount);
    if (!isComplete || amount <= 0) return failure(400, { type: 'invalid_request_error' });
    const id = newId('cs');
    const session = {
      ...{ id, object: 'checkout.session', mode: 'payment', created: seconds(), livemode: isLive },
      ...{ amount_total: amount, currency: form.get('line_items[0][price_data][currency]') },
      ...{
        client_reference_id: form.get('client_reference_id'),
        metadata: { reference: form.get('metadata[reference]') },
      },
      ...{ payment_status: 'unpaid', status: 'open', payment_intent: null, url: `https://checkout.example/c/${id}` },
    };
    sessions.push(session);
    intentMetadata.set(id, { reference: form.get('payment_intent_data[metadata][reference]') });
    return { status: 200, body: session };
  }
  const intentMetadata = new Map<string, Record<string, unknown>>();

  function complete(reference: string, status: string): StripeObject {
    const session = sessionOf(reference);
    const intent = {
      id: newId('pi'),
      object: 'payment_intent',
      status,
      metadata: intentMetadata.get(session.id) ?? {},
    };
    intents.set(intent.id, intent);
    Object.assign(session, { status: 'complete', payment_intent: intent.id, url: null });
    if (status === 'succeeded') charge(reference);
    return session;
  }

  function charge(reference: string): void {
    const [session, intent] = [sessionOf(reference), intentOf(reference)];
    const made = {
      ...{ id: newId('ch'), object: 'charge', amount: session.amount_total, amount_refunded: 0 },
      ...{ currency: session.currency, payment_intent: intent?.id, metadata: intent?.metadata },
    };
    charges.set(made.id, made);
    Object.assign(intent ?? {}, { status: 'succeeded', latest_charge: made.id });
    Object.assign(session, { payment_status: 'paid' });
  }

  function createRefund(form: URLSearchParams): FakeAnswer {
    const intent = intents.get(form.get('payment_intent') ?? '');
    const paid = charges.get(String(intent?.latest_charge));
    const amount = Number(form.get('amount'));
    const before = Number(paid?.amount_refunded);
    const fits = paid !== undefined && amount > 0 && before + amount <= Number(paid.amount);
    if (!fits) return failure(400, { type: 'invalid_request_error', code: 'charge_already_refunded' });
    const metadata = Object.fromEntries(
      [...form].flatMap(([key, value]) => (key.startsWith('metadata[') ? [[key.slice(9, -1), value]] : [])),
    );
    const refund = {
      ...{ id: newId('re'), object: 'refund', amount, currency: paid.currency, status: refundStatus, metadata },
      ...{ charge: paid.id, payment_intent: intent?.id },
    };
    Object.assign(paid, { amount_refunded: before + amount });
    refunds.push(refund);
    return { status: 200, body: refund };
  }

  /** The first answer to a key is the only one, a failure included; other parameters are an error. */
  function once({ headers, path, body }: FakeRequest, fault: Fault | undefined, work: () => FakeAnswer): FakeAnswer {
    const key = headers['idempotency-key'];
    if (typeof key !== 'string' || key.length > 255) return failure(400, { type: 'invalid_request_error' });
    const parameters = `${path}?${body}`;
    const known = saved.get(key);
    if (known !== undefined && known.parameters !== parameters) return failure(400, { type: 'idempotency_error' });
    if (known !== undefined) return { ...known.answer, headers: { 'idempotent-replayed': 'true' } };
    const answer = fault === 'fail_before' ? failure(500) : work();
    // What fails validation is not saved.
    if (answer.status === 400) return answer;
    const kept = structuredClone(fault === 'fail_after' ? failure(500) : answer);
    saved.set(key, { parameters, answer: kept });
    return kept;
  }

  const expanded = (session: StripeObject): StripeObject => ({
    ...session,
    payment_intent: intents.get(String(session.payment_intent)) ?? session.payment_intent,
  });

  function listSessions(query: URLSearchParams): FakeAnswer {
    const all = sessions.toReversed();
    const after = all.findIndex(({ id }) => id === query.get('starting_after'));
    const found = all
      .slice(after + 1)
      .filter(({ created }) => Number(created) >= Number(query.get('created[gte]') ?? 0))
      .filter(({ created }) => Number(created) <= Number(query.get('created[lte]') ?? Number.MAX_SAFE_INTEGER))
      .filter(({ status }) => status === (query.get('status') ?? status));
    const limit = Number(query.get('limit') ?? 10);
    const isExpanded = query.get('expand[]') === 'data.payment_intent';
    const data = found.slice(0, limit).map((session) => (isExpanded ? expanded(session) : session));
    return { status: 200, body: { object: 'list', data, has_more: found.length > limit } };
  }

  const page = (objects: readonly StripeObject[], query: URLSearchParams): FakeAnswer => {
    const data = objects.filter(({ payment_intent }) => payment_intent === query.get('payment_intent'));
    return { status: 200, body: { object: 'list', data, has_more: false } };
  };
  const one = (object: StripeObject | undefined): FakeAnswer =>
    object === undefined ? failure(404, { code: 'resource_missing' }) : { status: 200, body: object };

  function get({ path, query }: FakeRequest): FakeAnswer {
    const [, , collection = '', ...rest] = path.split('/');
    const id = rest.at(-1) ?? '';
    if (path === '/v1/checkout/sessions') return listSessions(query);
    if (path === '/v1/refunds') return page(refunds, query);
    if (path === '/v1/disputes') return page(disputes, query);
    if (collection === 'payment_intents') return one(intents.get(id));
    if (collection === 'charges') return one(charges.get(id));
    const session = path.startsWith('/v1/checkout/sessions/') ? sessions.find((each) => each.id === id) : undefined;
    return one(session && (query.get('expand[]') === 'payment_intent' ? expanded(session) : session));
  }

  function handle(request: FakeRequest, fault: Fault | undefined): FakeAnswer {
    if (request.headers.authorization !== `Bearer ${secretKey}`) return failure(401);
    if (request.method === 'GET') return fault?.startsWith('fail') ? failure(500) : get(request);
    const form = new URLSearchParams(request.body);
    if (request.path === '/v1/checkout/sessions') return once(request, fault, () => createSession(form));
    if (request.path === '/v1/refunds') return once(request, fault, () => createRefund(form));
    return failure(404);
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
    deliver,
    checkouts: (reference) => sessions.filter((session) => session.client_reference_id === reference).length,
    pay: (reference) => [deliver('checkout.session.completed', complete(reference, 'succeeded'))],
    payLater: (reference) => [deliver('checkout.session.completed', complete(reference, 'processing'))],
    decideLater: (reference, result) => {
      if (result === 'paid') charge(reference);
      else Object.assign(intentOf(reference) ?? {}, { status: 'requires_payment_method' });
      const type = result === 'paid' ? 'async_payment_succeeded' : 'async_payment_failed';
      return [deliver(`checkout.session.${type}`, sessionOf(reference))];
    },
    expire: (reference) => {
      Object.assign(sessionOf(reference), { status: 'expired', url: null });
      return [deliver('checkout.session.expired', sessionOf(reference))];
    },
    forgetKeys: () => saved.clear(),
    refund: (reference, amountMinor) => {
      const form = { payment_intent: String(sessionOf(reference).payment_intent), amount: String(amountMinor) };
      const { body } = createRefund(new URLSearchParams(form));
      return [
        deliver('refund.created', body as StripeObject),
        deliver('charge.refunded', chargeOf(reference) ?? {}),
        deliver('refund.updated', body as StripeObject),
      ];
    },
    refunds: (reference) =>
      refunds.filter(({ payment_intent }) => payment_intent === intentOf(reference)?.id).map(({ id }) => id),
    holdRefunds: () => {
      refundStatus = 'pending';
    },
    finishRefunds: (status) => {
      refundStatus = 'succeeded';
      const open = refunds.filter((refund) => refund.status === 'pending');
      return open.map((refund) => deliver('refund.updated', Object.assign(refund, { status })));
    },
    dispute: (reference, status) => {
      const paid = chargeOf(reference);
      const known = disputes.find((dispute) => dispute.charge === paid?.id);
      const fresh = {
        ...{ id: newId('dp'), object: 'dispute', amount: paid?.amount, currency: paid?.currency, metadata: {} },
        ...{ charge: paid?.id, payment_intent: paid?.payment_intent },
      };
      const dispute: StripeObject = Object.assign(known ?? fresh, { status });
      if (known === undefined) disputes.push(dispute);
      const isOver = ['won', 'lost', 'warning_closed'].includes(status);
      const type = isOver ? 'closed' : known === undefined ? 'created' : 'updated';
      return [deliver(`charge.dispute.${type}`, dispute)];
    },
  };
}

import assert from 'node:assert/strict';
import { addSeconds, type Instant } from '../domain/instant.ts';
import { formatAmount } from '../domain/money.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import {
  type CheckoutRequest,
  type Delivery,
  type FetchedPayment,
  type Hint,
  type PaymentProvider,
  type PaymentQuery,
  ProviderError,
  type ProviderErrorKind,
  type RefundRequest,
  type Verdict,
} from './provider.ts';

/** A genuine delivery, and all that may be read from it. */
export interface Vector {
  readonly name: string;
  readonly delivery: Delivery;
  /** When it arrives; the subject's `now` unless said otherwise. */
  readonly at?: Instant;
  readonly verdict: Verdict;
}

/** A delivery that must not be believed. */
export interface Negative {
  readonly name: string;
  readonly delivery: Delivery;
  readonly at?: Instant;
}

/**
 * What a fake does to a request, before or after it did what was asked:
 *
 * - `refuse`: nothing, 400; `busy`: nothing, 429; `fail_before`: nothing, 500;
 * - `fail_after`: all of it, 500; `hang`: all of it, and no answer; `drop`: all of it, and the connection breaks;
 *   `page`: all of it, and a page of HTML with status 200.
 */
export type Fault = 'refuse' | 'busy' | 'fail_before' | 'fail_after' | 'hang' | 'drop' | 'page';

export const FAULTS: readonly Fault[] = ['refuse', 'busy', 'fail_before', 'fail_after', 'hang', 'drop', 'page'];

/** A provider as its customers and owners see it. Everything is named by the reference of the payment. */
export interface Remote {
  /** Strikes the next request of that method, once. */
  fail(fault: Fault, method: 'GET' | 'POST'): void;
  /** Forgets the faults that have struck nothing yet. */
  recover(): void;
  /** Stops answering for good: connections are refused. */
  close(): Promise<void>;
  /** How many payments were opened there. */
  checkouts(reference: string): number;
  /** The customer pays. Answers the deliveries that are sent about it. */
  pay(reference: string): readonly Delivery[];
  /** The customer never pays. Absent where an opened payment stays open for ever. */
  expire?(reference: string): readonly Delivery[];
  /** Idempotency keys are kept for a day there; now the day is over. */
  forgetKeys?(): void;
  /** Pays back by hand, on the provider's own pages; where only the whole goes back, the whole. */
  refund?(reference: string, amountMinor: number): readonly Delivery[];
  /** Ids of the refunds there. */
  refunds?(reference: string): readonly string[];
}

/** A provider with a remote side of its own, and what is known about its deliveries. */
export interface ConformanceSubject extends AsyncDisposable {
  readonly provider: PaymentProvider;
  readonly now: Instant;
  /** A currency the provider takes. */
  readonly currency: string;
  /** Texts that no error may hold. What the remote side answers to faults counts as one: {@link ANSWER_CANARY}. */
  readonly secrets: readonly string[];
  readonly vectors: readonly Vector[];
  /** Twenty or more. */
  readonly negatives: readonly Negative[];
  /** Names of the headers that authenticate a delivery. */
  readonly signedHeaders: readonly string[];
  /** True when money goes back only as a whole. */
  readonly refundsWhole?: boolean;
  /** Absent for a provider that is never called. */
  readonly remote?: Remote | undefined;
}

/** Fakes put it into the body of every error that they answer. */
export const ANSWER_CANARY = 'canary-of-the-answer';

export interface ConformanceCheck {
  readonly name: string;
  /** The abilities the guarantee is about; providers without them need not be checked. */
  readonly needs: readonly (keyof PaymentProvider)[];
  /** Throws an `AssertionError` when the provider breaks the guarantee. */
  run(makeSubject: () => Promise<ConformanceSubject>): Promise<void>;
}

/**
 * The guarantees that concern a provider. Independent of any test runner:
 *
 * ```ts
 * for (const check of checksFor(provider)) test(check.name, () => check.run(makeSubject));
 * ```
 */
export function checksFor(provider: PaymentProvider): readonly ConformanceCheck[] {
  return conformanceChecks.filter(({ needs }) => needs.every((ability) => provider[ability] !== undefined));
}

type Run = (subject: ConformanceSubject) => Promise<void> | void;

function check(needs: ConformanceCheck['needs'], name: string, run: Run): ConformanceCheck {
  return {
    name,
    needs,
    run: async (makeSubject) => {
      await using subject = await makeSubject();
      await run(subject);
    },
  };
}

const MIN_NEGATIVES = 20;

export const conformanceChecks: readonly ConformanceCheck[] = [
  check(['verify'], 'every genuine delivery says what it means, no more and no less', (subject) => {
    assert.ok(subject.vectors.length > 0);
    for (const vector of subject.vectors) assert.deepEqual(verify(subject, vector), vector.verdict, vector.name);
  }),
  check(['verify'], 'a repeated delivery has the key of the first', (subject) => {
    for (const vector of subject.vectors) assert.equal(keyOf(verify(subject, vector)), keyOf(verify(subject, vector)));
  }),
  check(['verify'], 'no forged, replayed or broken delivery is believed', (subject) => {
    assert.ok(subject.negatives.length >= MIN_NEGATIVES, `only ${subject.negatives.length} negatives`);
    assert.equal(new Set(subject.negatives.map(({ name }) => name)).size, subject.negatives.length);
    for (const negative of subject.negatives) assert.equal(verify(subject, negative).kind, 'rejected', negative.name);
  }),
  check(['verify'], 'no delivery is believed with any single bit of its body or its signature flipped', (subject) => {
    if (subject.provider.authenticatesBy === 'address') return;
    for (const vector of subject.vectors) assertFlipsRefused(subject, vector);
  }),
  check(['verify'], 'a delivery without a signature over its body grants nothing', (subject) => {
    if (subject.provider.authenticatesBy === 'signature') return;
    for (const vector of subject.vectors) {
      const verdict = verify(subject, vector);
      assert.ok(verdict.kind !== 'event' || verdict.event === undefined, vector.name);
    }
  }),
  check(['verify'], 'nothing is believed of a sender known by address when there is no address', (subject) => {
    if (subject.provider.authenticatesBy !== 'address') return;
    for (const { name, delivery } of subject.vectors) {
      const overTrpc = { name, delivery: { ...delivery, remoteAddress: undefined } };
      assert.equal(verify(subject, overTrpc).kind, 'rejected', name);
    }
  }),
  check(['verify'], 'whatever is delivered, checking it does not throw', (subject) => {
    for (const { name, delivery } of subject.vectors) {
      for (const raw of ODD_BODIES) verify(subject, { name, delivery: { ...delivery, raw } });
      for (const odd of ODD_HEADERS) {
        const headers = Object.fromEntries(subject.signedHeaders.map((header) => [header, odd]));
        verify(subject, { name, delivery: { ...delivery, headers } });
      }
    }
  }),

  check(['createCheckout'], 'opening a payment twice answers the same checkout, and opens it once', async (subject) => {
    const first = await open(subject, 'ref_1');
    assert.deepEqual(await open(subject, 'ref_1'), first);
    assert.equal(remoteOf(subject).checkouts('ref_1'), 1);
    assert.notDeepEqual(await open(subject, 'ref_2'), first);
  }),
  check(['createCheckout'], 'opening a payment many times at once opens it once', async (subject) => {
    const all = await Promise.all(Array.from({ length: 5 }, () => open(subject, 'ref_1')));
    for (const each of all) assert.deepEqual(each, all[0]);
    assert.equal(remoteOf(subject).checkouts('ref_1'), 1);
  }),
  ...FAULTS.map((fault) =>
    check(['createCheckout'], `opening a payment survives: ${fault}`, async (subject) => {
      remoteOf(subject).fail(fault, 'POST');
      await assertFails(subject, postKind(fault), () => open(subject, 'ref_1', patient(fault)));
      const { checkout } = await open(subject, 'ref_1');
      assert.equal(checkout.type, subject.provider.checkoutType);
      assert.equal(remoteOf(subject).checkouts('ref_1'), 1);
    }),
  ),
  check(['createCheckout'], 'a provider that is not there is unavailable: nothing has happened', async (subject) => {
    await remoteOf(subject).close();
    await assertFails(subject, 'unavailable', () => open(subject, 'ref_1'));
  }),
  check(['createCheckout'], 'a caller who gave up before has sent nothing', async (subject) => {
    await assertFails(subject, 'unavailable', () => open(subject, 'ref_1', AbortSignal.abort()));
    assert.equal(remoteOf(subject).checkouts('ref_1'), 0);
  }),

  check(['fetchPayment'], 'a payment that the provider does not know has no events', async (subject) => {
    for (const chargeId of [null, 'cs_unknown', '1', '../payments', 'a/b?c#d', '', ' ', 'x'.repeat(300), '%2e%2e']) {
      assert.deepEqual((await read(subject, 'ref_0', chargeId)).events, [], String(chargeId));
    }
  }),
  check(['createCheckout', 'fetchPayment'], 'an open payment has no events, and more may come', async (subject) => {
    const { chargeId } = await open(subject, 'ref_1');
    assert.deepEqual(await read(subject, 'ref_1', chargeId), { events: [], isFinal: false });
    assert.deepEqual(await read(subject, 'ref_1', null), { events: [], isFinal: false });
  }),
  check(['createCheckout', 'fetchPayment'], 'a paid payment reads as its delivery does', async (subject) => {
    const { chargeId } = await open(subject, 'ref_1');
    await open(subject, 'ref_2');
    const deliveries = remoteOf(subject).pay('ref_1');
    const { events, isFinal } = await read(subject, 'ref_1', chargeId);
    assert.equal(isFinal, true);
    assert.equal(events.length, 1);
    const { payerId: _, ...event } = defined(events[0]?.event);
    assert.ok(event.chargeId, 'money has an id');
    assert.deepEqual(event, {
      ...{ provider: subject.provider.name, type: 'completed', reference: 'ref_1' },
      ...{ chargeId: chargeId ?? event.chargeId, amountMinor: AMOUNT, currency: subject.currency },
    });
    await assertTold(subject, { reference: 'ref_1', deliveries, events });
    assert.deepEqual(await read(subject, 'ref_1', chargeId), { events, isFinal }, 'the same at every reading');
  }),
  check(
    ['createCheckout', 'fetchPayment'],
    'money is found although the opening was never answered',
    async (subject) => {
      remoteOf(subject).fail('drop', 'POST');
      await assertFails(subject, 'unknown', () => open(subject, 'ref_1'));
      remoteOf(subject).pay('ref_1');
      const { events } = await read(subject, 'ref_1', null);
      assert.deepEqual(typesOf(events), ['completed']);
      assert.equal(events[0]?.event?.reference, 'ref_1');
      assert.ok(events[0]?.event?.chargeId);
    },
  ),
  check(['createCheckout', 'fetchPayment'], 'a payment that nobody pays has failed, for good', async (subject) => {
    const remote = remoteOf(subject);
    if (remote.expire === undefined) return;
    const { chargeId } = await open(subject, 'ref_1');
    const deliveries = remote.expire('ref_1');
    const { events, isFinal } = await read(subject, 'ref_1', chargeId);
    assert.equal(isFinal, true);
    assert.deepEqual(typesOf(events), ['failed']);
    assert.equal(events[0]?.event?.chargeId, chargeId);
    await assertTold(subject, { reference: 'ref_1', deliveries, events });
  }),
  ...FAULTS.map((fault) =>
    check(['createCheckout', 'fetchPayment'], `reading a payment survives: ${fault}`, async (subject) => {
      const { chargeId } = await open(subject, 'ref_1');
      remoteOf(subject).pay('ref_1');
      remoteOf(subject).fail(fault, 'GET');
      const kind = fault === 'refuse' ? 'refused' : 'unavailable';
      await assertFails(subject, kind, () => read(subject, 'ref_1', chargeId, patient(fault)));
      assert.deepEqual(typesOf((await read(subject, 'ref_1', chargeId)).events), ['completed']);
    }),
  ),

  check(['createCheckout', 'refund'], 'a refund repeated with its key is one refund', async (subject) => {
    const charge = await openAndPay(subject, 'ref_1');
    const first = await refund(subject, { charge, key: 'refund-1' });
    assert.deepEqual(await refund(subject, { charge, key: 'refund-1' }), first);
    assert.deepEqual(refundsOf(subject), [first.refundId]);
  }),
  check(['createCheckout', 'refund'], 'two refunds in part are two refunds', async (subject) => {
    if (subject.refundsWhole) return;
    const charge = await openAndPay(subject, 'ref_1');
    const first = await refund(subject, { charge, key: 'refund-1' });
    const other = await refund(subject, { charge, key: 'refund-2' });
    assert.notEqual(other.refundId, first.refundId);
    assert.deepEqual(refundsOf(subject).toSorted(), [first.refundId, other.refundId].toSorted());
  }),
  check(['createCheckout', 'refund'], 'a refund repeated after its key is forgotten is one refund', async (subject) => {
    const charge = await openAndPay(subject, 'ref_1');
    const first = await refund(subject, { charge, key: 'refund-1' });
    remoteOf(subject).forgetKeys?.();
    assert.deepEqual(await refund(subject, { charge, key: 'refund-1' }), first);
    assert.equal(refundsOf(subject).length, 1);
  }),
  ...FAULTS.map((fault) =>
    check(['createCheckout', 'refund'], `a refund survives: ${fault}`, async (subject) => {
      const charge = await openAndPay(subject, 'ref_1');
      remoteOf(subject).fail(fault, 'POST');
      const request = { charge, key: 'refund-1' };
      await assertFails(subject, postKind(fault), () => refund(subject, { ...request, signal: patient(fault) }));
      const { refundId, status } = await refund(subject, request);
      assert.equal(status, 'succeeded');
      assert.deepEqual(refundsOf(subject), [refundId]);
    }),
  ),
  check(['createCheckout', 'refund'], 'nothing is paid back of a charge that is not there', async (subject) => {
    const { payerId } = await openAndPay(subject, 'ref_1');
    for (const chargeId of ['cs_unknown', '1', '../x', '']) {
      await assertFails(subject, 'refused', () => refund(subject, { charge: { chargeId, payerId }, key: 'k' }));
    }
    assert.deepEqual(refundsOf(subject), []);
  }),
  check(['createCheckout', 'refund'], 'nothing is paid back beyond what was paid', async (subject) => {
    if (subject.refundsWhole) return;
    const charge = await openAndPay(subject, 'ref_1');
    const request = { charge, amountMinor: AMOUNT + 1, key: 'refund-1' };
    await assertFails(subject, 'refused', () => refund(subject, request));
    assert.deepEqual(refundsOf(subject), []);
  }),
  check(['createCheckout', 'refund'], 'what goes back only as a whole does not go back in part', async (subject) => {
    if (!subject.refundsWhole) return;
    const charge = await openAndPay(subject, 'ref_1');
    const request = { charge, amountMinor: PART, key: 'refund-1' };
    await assertFails(subject, 'refused', () => refund(subject, request));
    assert.deepEqual(refundsOf(subject), []);
  }),
  check(['createCheckout', 'fetchPayment', 'refund'], 'our own refund is read back under its id', async (subject) => {
    const charge = await openAndPay(subject, 'ref_1');
    const { refundId } = await refund(subject, { charge, key: 'refund-1' });
    const { events } = await read(subject, 'ref_1', charge.chargeId);
    const found = events.find(({ event }) => event?.type === 'refunded');
    assert.deepEqual(defined(found?.event), {
      ...{ provider: subject.provider.name, type: 'refunded', reference: 'ref_1', chargeId: charge.chargeId, refundId },
      ...{ amountMinor: refundable(subject), currency: subject.currency },
    });
    assert.deepEqual(typesOf(events), ['completed', 'refunded']);
  }),
  check(
    ['createCheckout', 'fetchPayment', 'refund'],
    'refunds made by hand read as their deliveries do',
    async (subject) => {
      const { chargeId } = await openAndPay(subject, 'ref_1');
      const remote = remoteOf(subject);
      const amounts = subject.refundsWhole ? [AMOUNT] : [PART, 2 * PART];
      const deliveries = amounts.flatMap((minor) => remote.refund?.('ref_1', minor) ?? []);
      const { events } = await read(subject, 'ref_1', chargeId);
      const refunds = events.filter(({ event }) => event?.type === 'refunded');
      assert.deepEqual(refunds.map(({ event }) => event?.amountMinor).toSorted(), amounts);
      assert.deepEqual(refunds.map(({ event }) => event?.refundId).toSorted(), refundsOf(subject).toSorted());
      assert.equal(new Set(events.map(({ dedupeKey }) => dedupeKey)).size, events.length, 'each has its own key');
      await assertTold(subject, { reference: 'ref_1', deliveries, events: refunds });
    },
  ),
];

function verify({ provider, now }: ConformanceSubject, { delivery, at = now }: Negative): Verdict {
  const verdict = provider.verify?.(delivery, at);
  assert.ok(verdict, 'the provider takes no deliveries');
  return verdict;
}

function keyOf(verdict: Verdict): string | undefined {
  return verdict.kind === 'event' || verdict.kind === 'hint' ? verdict.dedupeKey : undefined;
}

/** A secret says nothing about the body; what such bodies can do is another check. */
function assertFlipsRefused(subject: ConformanceSubject, { name, delivery, at }: Vector): void {
  const refuse = (changed: Partial<Delivery>, what: string) => {
    const attempt = { name, delivery: { ...delivery, ...changed }, ...(at === undefined ? {} : { at }) };
    assert.equal(verify(subject, attempt).kind, 'rejected', `${name}: ${what}`);
  };
  const isSigned = subject.provider.authenticatesBy !== 'secret';
  for (const [raw, bit] of isSigned ? flips(delivery.raw) : []) refuse({ raw }, `bit ${bit} of the body`);
  for (const header of subject.signedHeaders) {
    for (const [value, bit] of flips(delivery.headers[header] ?? '')) {
      refuse({ headers: { ...delivery.headers, [header]: value } }, `bit ${bit} of ${header}`);
    }
  }
}

/** The text with each single bit of its bytes changed, as it would come off the wire. */
function* flips(text: string): Generator<readonly [string, number]> {
  const bytes = Buffer.from(text);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    yield [flipped.toString('utf8'), bit];
  }
}

const ODD_BODIES: readonly string[] = [
  ...['', ' ', 'null', '[]', '0', '"text"', '{', '{}', '\u0000', '\ud800', '{"object":null}', '{"object":[]}'],
  ...['{"__proto__":{"id":"x"}}', '{"id":"a","data":{"object":null}}', '{"event":1,"object":{"id":{}}}'],
  '['.repeat(20_000),
];

const ODD_HEADERS: readonly (string | undefined)[] = [
  undefined,
  '',
  ',',
  '=',
  't=,v1=',
  't=1,v1=\u0000',
  'x'.repeat(9000),
];

const AMOUNT = 49_900;
/** Of the amount, where some of it can go back. */
const PART = 100;
/** Only for what never answers: anything else may take its time on a busy machine. */
const HANGING_MS = 400;

function remoteOf({ remote }: ConformanceSubject): Remote {
  assert.ok(remote, 'a provider that is called needs a remote side');
  return remote;
}

function patient(fault?: Fault): AbortSignal {
  return AbortSignal.timeout(fault === 'hang' ? HANGING_MS : 15_000);
}

function open({ provider, currency }: ConformanceSubject, reference: string, signal = patient()) {
  const request: CheckoutRequest = {
    reference,
    amount: formatAmount(AMOUNT, currency),
    amountMinor: AMOUNT,
    currency,
    title: 'Thirty days & more',
    description: null,
    returnUrl: null,
  };
  assert.ok(provider.createCheckout);
  return provider.createCheckout(request, signal);
}

interface Charge {
  readonly chargeId: string;
  readonly payerId: string | null;
}

async function openAndPay(subject: ConformanceSubject, reference: string): Promise<Charge> {
  const opened = await open(subject, reference);
  remoteOf(subject).pay(reference);
  const { events } = await read(subject, reference, opened.chargeId);
  const chargeId = opened.chargeId ?? events[0]?.event?.chargeId;
  assert.ok(chargeId);
  return { chargeId, payerId: events[0]?.event?.payerId ?? null };
}

function read(
  { provider, currency, now }: ConformanceSubject,
  reference: string,
  chargeId: string | null,
  signal = patient(),
): Promise<FetchedPayment> {
  const createdAt = addSeconds(now, -60);
  const query: PaymentQuery = { reference, chargeId, createdAt, amountMinor: AMOUNT, currency };
  assert.ok(provider.fetchPayment);
  return provider.fetchPayment(query, signal);
}

interface RefundInput {
  readonly charge: Charge;
  /** As much as a first refund can be, unless said otherwise. */
  readonly amountMinor?: number;
  readonly key: string;
  readonly signal?: AbortSignal;
}

function refundable({ refundsWhole }: ConformanceSubject): number {
  return refundsWhole ? AMOUNT : PART;
}

function refund(subject: ConformanceSubject, { charge, key, signal, amountMinor }: RefundInput) {
  const { provider, currency } = subject;
  const minor = amountMinor ?? refundable(subject);
  const money = { amountMinor: minor, currency, isWhole: minor === AMOUNT };
  const request: RefundRequest = { reference: 'ref_1', ...charge, ...money, idempotencyKey: key };
  assert.ok(provider.refund);
  return provider.refund(request, signal ?? patient());
}

function refundsOf(subject: ConformanceSubject): readonly string[] {
  return remoteOf(subject).refunds?.('ref_1') ?? [];
}

function typesOf(events: FetchedPayment['events']): readonly (string | undefined)[] {
  return events.map(({ event }) => event?.type);
}

function postKind(fault: Fault): ProviderErrorKind {
  if (fault === 'refuse') return 'refused';
  return fault === 'busy' ? 'unavailable' : 'unknown';
}

/** Fails as a {@link ProviderError} of that kind which gives nothing away. */
async function assertFails(
  { secrets }: ConformanceSubject,
  kind: ProviderErrorKind,
  act: () => Promise<unknown>,
): Promise<void> {
  const error: unknown = await act().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ProviderError, `expected a ProviderError, got ${String(error)}`);
  assert.equal(error.kind, kind, error.message);
  const shown = `${error.message}\n${error.stack}\n${JSON.stringify(error)}\n${String(error.cause ?? '')}`;
  for (const secret of [...secrets, ANSWER_CANARY]) assert.ok(!shown.includes(secret), `an error shows ${secret}`);
}

interface Told {
  readonly reference: string;
  readonly deliveries: readonly Delivery[];
  /** What was read back about the same. */
  readonly events: FetchedPayment['events'];
}

/** Every delivery says nothing, or leads to the payment, or says what reading back says. */
async function assertTold(subject: ConformanceSubject, { reference, deliveries, events }: Told): Promise<void> {
  for (const delivery of deliveries) {
    const verdict = verify(subject, { name: reference, delivery });
    if (verdict.kind === 'hint') await assertLeadsTo(subject, verdict, { reference, events });
    else if (verdict.kind === 'event' && verdict.event !== undefined) assertAmong(verdict.event, events);
    else assert.equal(verdict.kind, 'event');
  }
}

async function assertLeadsTo(
  { provider }: ConformanceSubject,
  hint: Hint,
  { reference, events }: Omit<Told, 'deliveries'>,
): Promise<void> {
  const isNamed = hint.reference === reference || events.some(({ event }) => event?.chargeId === hint.chargeId);
  const named = isNamed ? reference : await provider.findReference?.(hint, patient());
  assert.equal(named, reference, `the hint ${hint.dedupeKey} leads nowhere`);
}

/** A delivery may leave out an id; what it says must be what was read. */
function assertAmong(told: SettlementEvent, events: FetchedPayment['events']): void {
  const same = events.find(({ event }) => event?.type === told.type && event.refundId === told.refundId);
  assert.ok(same?.event, `nothing that was read is ${told.type}`);
  assert.deepEqual({ ...defined(same.event), ...defined(told) }, defined(same.event));
}

function defined(event: SettlementEvent | undefined): Record<string, unknown> {
  return Object.fromEntries(Object.entries(event ?? {}).filter(([, value]) => value !== undefined));
}

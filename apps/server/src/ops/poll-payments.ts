import {
  claimDuePolls,
  findPayment,
  listChildPayments,
  listWaitingHints,
  type PaymentEventRow,
  type PaymentRow,
  planPoll,
  updateEventOutcome,
} from '@vpn-api/db';
import { addSeconds, type Instant, minInstant } from '../domain/instant.ts';
import { nextPollAt, retryAt } from '../domain/polling.ts';
import type { FetchedEvent, FetchedPayment, PaymentProvider, PaymentQuery, ProviderError } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { askProvider, type Round } from './ask-provider.ts';
import { NOT_CONFIRMED } from './receive-hint.ts';
import { type RecordedEvent, recordEvent } from './record-event.ts';
import { settling } from './settle-payment.ts';
import { sideBySide } from './side-by-side.ts';

export type PollDeps = SettleDeps &
  Pick<Services, 'store' | 'providers' | 'config' | 'log' | 'metrics' | 'paymentPolls'>;

const BATCH = 16;
const SIDE_BY_SIDE = 4;
/** Longer than a whole batch takes when every call of it runs into its timeout. */
const LEASE_SECONDS = 120;
/** A hint that its provider does not confirm in so many readings, over ten minutes, was wrong. */
const HINT_ATTEMPTS = 7;

/**
 * Reads every payment whose time has come back from its provider and settles what is news, exactly as if it had been
 * delivered. With all webhooks lost every payment still lands.
 */
export async function pollPayments(deps: PollDeps, round: Round): Promise<void> {
  while (!round.signal.aborted) {
    const now = deps.clock.now();
    const leaseUntil = addSeconds(now, LEASE_SECONDS);
    const claimed = await claimDuePolls(deps.store, { now, leaseUntil, limit: BATCH });
    if (claimed.length === 0) return;
    await sideBySide(claimed, SIDE_BY_SIDE, (payment) => pollPayment(deps, { payment, leaseUntil, round }));
  }
}

interface Poll {
  readonly payment: PaymentRow;
  readonly leaseUntil: Instant;
  readonly round: Round;
}

async function pollPayment(deps: PollDeps, poll: Poll): Promise<void> {
  const { payment, round } = poll;
  const provider = deps.providers.get(payment.provider);
  // Its variables are gone; they may come back.
  if (provider?.fetchPayment === undefined) return plan(deps, poll, { isFinal: false, hasOpenHints: false });
  const hints = await listWaitingHints(deps.store, payment.id);
  const query = queryFor(payment);
  const asked = await askProvider(deps, {
    provider: provider.name,
    call: 'poll',
    round,
    ask: (signal) => (provider as Required<PaymentProvider>).fetchPayment(query, signal),
  });
  if ('failure' in asked) return planRetry(deps, poll, asked.failure);
  const hasOpenHints = await settleFetched(deps, { payment, hints, fetched: asked.answer });
  await plan(deps, poll, { isFinal: asked.answer.isFinal, hasOpenHints });
}

function queryFor(payment: PaymentRow): PaymentQuery {
  const { reference, provider_payment_id: chargeId, created_at, amount_minor: amountMinor, currency } = payment;
  return { reference, chargeId, createdAt: created_at as Instant, amountMinor, currency };
}

interface Fetched {
  readonly payment: PaymentRow;
  readonly hints: readonly PaymentEventRow[];
  readonly fetched: FetchedPayment;
}

/** Answers whether hints are left that nothing of what was read confirms. */
async function settleFetched(deps: PollDeps, { payment, hints, fetched }: Fetched): Promise<boolean> {
  const results: Result[] = [];
  for (const event of fetched.events) results.push({ event, ...(await settleRead(deps, payment, event)) });
  const isTired = payment.poll_attempts + 1 >= HINT_ATTEMPTS;
  let open = 0;
  for (const hint of hints) {
    const hasGivenUp = isTired || (fetched.isFinal && !namesItsObject(hint));
    const outcome = outcomeOfHint(hint, results) ?? (hasGivenUp ? UNCONFIRMED : undefined);
    if (outcome === undefined) open += 1;
    else await closeHint(deps, { hint, payment, outcome });
  }
  return open > 0;
}

interface Result extends RecordedEvent {
  readonly event: FetchedEvent;
}

function settleRead(deps: PollDeps, { provider }: PaymentRow, event: FetchedEvent): Promise<RecordedEvent> {
  const received = { name: provider, verified: event, raw: event.raw };
  return settling(deps.store, (tx) => recordEvent(deps, tx, received));
}

type HintOutcome = Pick<PaymentEventRow, 'outcome' | 'reason'>;
const UNCONFIRMED: HintOutcome = { outcome: 'ignored', reason: NOT_CONFIRMED };

/** What became of the event that the hint announced. One that names its object otherwise is met by any news. */
function outcomeOfHint(hint: PaymentEventRow, results: readonly Result[]): HintOutcome | undefined {
  const found = results.find(({ event }) => isAnnouncedBy(hint, event)) ?? results.find(isNews);
  if (found === undefined) return undefined;
  // What waits does so under the event's own name; the hint has done its work.
  const isWaiting = found.outcome === 'held' || found.outcome === 'parked';
  return { outcome: isWaiting ? 'ignored' : found.outcome, reason: 'read_back' };
}

function isAnnouncedBy(hint: PaymentEventRow, { event }: FetchedEvent): boolean {
  if (hint.provider_refund_id !== null) return event?.refundId === hint.provider_refund_id;
  return hint.provider_payment_id !== null && event?.chargeId === hint.provider_payment_id;
}

/** What is named and not there yet may show a little later: a provider may tell before its own lists know. */
function namesItsObject(hint: PaymentEventRow): boolean {
  return hint.provider_refund_id !== null || hint.provider_payment_id !== null;
}

function isNews({ outcome }: Result): boolean {
  return outcome !== 'duplicate';
}

interface ClosingHint {
  readonly hint: PaymentEventRow;
  readonly payment: PaymentRow;
  readonly outcome: HintOutcome;
}

async function closeHint({ store, clock }: PollDeps, { hint, payment, outcome }: ClosingHint): Promise<void> {
  await updateEventOutcome(store, hint.id, { ...outcome, payment_id: payment.id, processed_at: clock.now() });
}

interface Read {
  readonly isFinal: boolean;
  readonly hasOpenHints: boolean;
}

async function plan(deps: PollDeps, { payment, leaseUntil }: Poll, { isFinal, hasOpenHints }: Read): Promise<void> {
  const scheduled = await schedule(deps, payment, isFinal);
  const attempts = hasOpenHints ? payment.poll_attempts + 1 : 0;
  const pollAt = hasOpenHints ? earlier(scheduled, retryAt(deps.clock.now(), attempts)) : scheduled;
  await planPoll(deps.store, payment.id, { leaseUntil, pollAt, attempts });
}

async function planRetry(deps: PollDeps, { payment, leaseUntil }: Poll, failure: ProviderError): Promise<void> {
  const attempts = payment.poll_attempts + 1;
  deps.log.warn(
    { provider: payment.provider, payment_id: payment.id, err: failure },
    'a payment could not be read back',
  );
  const pollAt = earlier(await schedule(deps, payment, false), retryAt(deps.clock.now(), attempts));
  await planPoll(deps.store, payment.id, { leaseUntil, pollAt, attempts });
}

/** By the state it has now, which may have changed since it was claimed. */
async function schedule(
  { store, clock, config }: PollDeps,
  payment: PaymentRow,
  isFinal: boolean,
): Promise<Instant | null> {
  const current = (await findPayment(store, payment.id)) ?? payment;
  const last_charge_at = (await listChildPayments(store, payment.id)).at(-1)?.created_at ?? current.completed_at;
  const pollSeconds = config.payments.pollSeconds;
  return nextPollAt({ ...current, last_charge_at }, { now: clock.now(), pollSeconds, isFinal });
}

function earlier(scheduled: Instant | null, retry: Instant): Instant {
  return scheduled === null ? retry : minInstant(scheduled, retry);
}

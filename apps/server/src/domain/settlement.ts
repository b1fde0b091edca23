import type { ErrorCode } from './errors.ts';
import { DAY_SECONDS, type Instant } from './instant.ts';
import { proportion } from './money.ts';
import { canMove, hasReceivedMoney, isPaid, type PaymentStatus, type ReviewReason } from './payment.ts';
import {
  type Apply,
  foldPeriods,
  hasLifetime,
  type MovablePeriod,
  type NewPeriod,
  type Placement,
  piecesOf,
  placeGrant,
  refundCuts,
  type TariffTerms,
} from './subscription.ts';

/** What a provider said about money, in no provider's own terms. Verified, and with nothing of ours mixed in. */
export interface SettlementEvent {
  /** Name of the sender, as in the payment's `provider`. */
  readonly provider: string;
  readonly type: 'completed' | 'failed' | 'refunded' | 'disputed' | 'dispute_won' | 'dispute_lost';
  readonly reference?: string | undefined;
  readonly paymentId?: number | undefined;
  /** The provider's id of the charge: the identity of the money. */
  readonly chargeId?: string | undefined;
  /** The provider's id of the refund, or of the dispute. */
  readonly refundId?: string | undefined;
  /** In minor units of `currency`; what went back, for a refund. */
  readonly amountMinor?: number | undefined;
  readonly currency?: string | undefined;
  /** The provider declares this charge a renewal of the payment that `reference` names. */
  readonly renewal?: boolean | undefined;
  /** Who paid, in the provider's words; kept with the payment for refunds that must name the payer. */
  readonly payerId?: string | undefined;
}

/** The columns of a `payments` row that settling reads, and the tariff as it was sold. */
export interface SettlementPayment {
  readonly id: number;
  readonly parent_id: number | null;
  readonly user_id: number;
  readonly reference: string;
  readonly provider: string;
  readonly provider_payment_id: string | null;
  readonly status: PaymentStatus;
  /** Stays on a payment that an admin rejected, and tells it from one that its provider gave up on. */
  readonly review_reason?: string | null | undefined;
  readonly amount_minor: number;
  readonly currency: string;
  readonly refunded_minor: number;
  readonly disputed_at?: string | null | undefined;
  readonly apply: Apply;
  readonly terms: TariffTerms;
}

export interface RefundFacts {
  readonly id: number;
  readonly payment_id: number;
  readonly provider_refund_id: string | null;
  readonly amount_minor: number;
  readonly status: 'pending' | 'succeeded' | 'failed';
}

/** What is known of one dispute, from the events about it that were acted upon. */
export interface DisputeFacts {
  /** The provider's id of it; null when it gives none, and then a payment has one dispute. */
  readonly dispute_id: string | null;
  readonly state: 'open' | 'won' | 'lost';
}

export interface Money {
  readonly amount_minor: number;
  readonly currency: string;
}

/** Everything `decideSettlement` may look at, read in one transaction under the lock of the payment's user. */
export interface SettlementSnapshot {
  /** The payment whose `reference` is the event's. */
  readonly byReference?: SettlementPayment | undefined;
  /** The payment of this provider whose `provider_payment_id` is the event's charge id. */
  readonly byCharge?: SettlementPayment | undefined;
  /** The payment an admin attached the event to. Stands in for `byReference`, and for nothing else. */
  readonly forced?: SettlementPayment | undefined;
  /** The user of the payment found. */
  readonly user: { readonly removed_at: string | null };
  /** All periods of that user. */
  readonly periods: readonly (MovablePeriod & { readonly payment_id: number | null })[];
  /** The refunds of the payment found, and any with the event's provider and refund id. */
  readonly refunds: readonly RefundFacts[];
  /** The disputes of the payment found. */
  readonly disputes?: readonly DisputeFacts[] | undefined;
  /**
   * What the payment's charge brought, where that is known: other money than was asked stays other money after an admin
   * accepted it, and refunds are measured by it. Without it, what was quoted is what came.
   */
  readonly received?: Money | undefined;
}

/**
 * One change to write. In the order given they are payment, period, refund; each follows from the snapshot, so applying
 * a decision never needs another look at the rows.
 */
export type SettlementAction =
  /** status = completed, completed_at = now, provider_payment_id = charge_id (unless null: manual money has none). */
  | { readonly kind: 'complete_payment'; readonly payment_id: number; readonly charge_id: string | null }
  /** status = needs_review. */
  | {
      readonly kind: 'review_payment';
      readonly payment_id: number;
      readonly charge_id: string;
      readonly reason: ReviewReason;
    }
  /** status = failed. */
  | { readonly kind: 'fail_payment'; readonly payment_id: number }
  /** provider_payment_id = charge_id; the status stays. */
  | { readonly kind: 'bind_charge'; readonly payment_id: number; readonly charge_id: string }
  /** A new payment of the parent's user, tariff, terms and provider. */
  | ({
      readonly kind: 'add_child';
      readonly parent_id: number;
      readonly charge_id: string;
      readonly status: 'completed' | 'needs_review';
      readonly reason: ReviewReason | null;
    } & Money)
  /** A new period. `payment_id` is null when it is of the child that this decision adds. */
  | {
      readonly kind: 'grant_period';
      readonly payment_id: number | null;
      readonly period: NewPeriod;
      /** What makes room for it; then the chain is folded anew. */
      readonly moves: Placement['moves'];
      readonly requeued: Placement['requeued'];
    }
  /** A refund that succeeded. `refund_id` is our row that waited for it, or null for a new row. */
  | {
      readonly kind: 'record_refund';
      readonly payment_id: number;
      readonly refund_id: number | null;
      readonly provider_refund_id: string | null;
      readonly amount_minor: number;
    }
  /**
   * status and refunded_minor; `review_reason` is a remark to store, or null to leave as it is. The status stays for part
   * of the money of a payment in review, and for money that an admin rejected.
   */
  | {
      readonly kind: 'mark_refunded';
      readonly payment_id: number;
      readonly status: 'refunded' | 'partially_refunded' | 'needs_review' | 'failed';
      readonly refunded_minor: number;
      readonly review_reason: ReviewReason | null;
    }
  /** disputed_at: while it is set, the periods that the payment bought give no access. */
  | { readonly kind: 'mark_disputed'; readonly payment_id: number; readonly disputed_at: Instant | null }
  /** Then the chain is folded anew. */
  | {
      readonly kind: 'cut_period';
      readonly period_id: number;
      readonly cut_seconds: number;
      readonly revoked_at: Instant | null;
    };

export type SettlementOutcome = 'settled' | 'duplicate' | 'ignored' | 'held' | 'parked';

export type SettlementReason =
  | ReviewReason
  | 'payment_unknown'
  | 'charge_unknown'
  | 'payment_not_settled'
  | 'provider_mismatch'
  | 'identifiers_disagree'
  | 'charge_mismatch'
  | 'charge_missing'
  | 'refund_id_missing'
  | 'amount_missing'
  | 'refund_amount_mismatch'
  | 'refund_exceeds_payment'
  | 'payment_not_pending'
  | 'already_refunded'
  | 'dispute_decided';

/**
 * - `settled`: acted upon;
 * - `duplicate`: this charge or refund is known, nothing to do;
 * - `ignored`: has no meaning any more, nothing granted or lost;
 * - `held`: contradicts itself or the payment, waits for a person;
 * - `parked`: waits for a payment, or for its settlement, and is decided anew then.
 */
export interface SettlementDecision {
  readonly outcome: SettlementOutcome;
  readonly reason?: SettlementReason;
  /** The payment the event is about, once that is certain. Children are named by their own id. */
  readonly payment_id: number | null;
  readonly actions: readonly SettlementAction[];
}

/** Decides what one event does to one user's money. Total: every snapshot and event has an answer, nothing throws. */
export function decideSettlement(
  snapshot: SettlementSnapshot,
  event: SettlementEvent,
  now: string,
): SettlementDecision {
  const named = snapshot.forced ?? snapshot.byReference;
  const payment = snapshot.byCharge ?? named;
  // A bare payment id never finds a payment: ids are small numbers, and a sender's mistake would pay for a stranger.
  if (payment === undefined) return waiting(null, 'payment_unknown');
  const contradiction = findContradiction(snapshot, event, payment);
  if (contradiction !== undefined) return { outcome: 'held', reason: contradiction, payment_id: null, actions: [] };
  const context: Context = { snapshot, event, payment, now };
  switch (event.type) {
    case 'completed':
      return decideCompleted(context);
    case 'failed':
      return decideFailed(context);
    case 'refunded':
      return decideRefunded(context);
    case 'disputed':
    case 'dispute_won':
    case 'dispute_lost':
      return decideDispute(context, event.type);
    default:
      return assertNever(event.type);
  }
}

interface Context {
  readonly snapshot: SettlementSnapshot;
  readonly event: SettlementEvent;
  readonly payment: SettlementPayment;
  readonly now: string;
}

function findContradiction(
  snapshot: SettlementSnapshot,
  event: SettlementEvent,
  payment: SettlementPayment,
): SettlementReason | undefined {
  if (payment.provider !== event.provider) return 'provider_mismatch';
  const { forced, byReference, byCharge } = snapshot;
  if (byCharge !== undefined && byCharge.provider_payment_id !== event.chargeId) return 'identifiers_disagree';
  if (forced !== undefined) return isOneOf(payment, forced.id) ? undefined : 'identifiers_disagree';
  if (byReference !== undefined && byReference.reference !== event.reference) return 'identifiers_disagree';
  if (event.reference !== undefined && !isNamedBy(payment, event.reference, byReference)) return 'identifiers_disagree';
  if (event.paymentId !== undefined && !isOneOf(payment, event.paymentId)) return 'identifiers_disagree';
  return undefined;
}

/** A child is named by its parent's identifiers too: providers repeat the first reference for every further charge. */
function isOneOf(payment: SettlementPayment, id: number): boolean {
  return id === payment.id || id === payment.parent_id;
}

function isNamedBy(payment: SettlementPayment, reference: string, byReference: SettlementPayment | undefined): boolean {
  return reference === payment.reference || (byReference !== undefined && isOneOf(payment, byReference.id));
}

function decideCompleted(context: Context): SettlementDecision {
  const { event, payment } = context;
  const { chargeId } = event;
  if (chargeId === undefined) return held(payment, 'charge_missing');
  const bound = payment.provider_payment_id;
  const isUnsettled = payment.status === 'pending' || payment.status === 'failed';
  if (isUnsettled && bound !== null && bound !== chargeId) return held(payment, 'charge_mismatch');
  if (bound === chargeId && (!isUnsettled || isRejected(payment))) return duplicate(payment);
  const charge = readCharge(event, chargeId);
  if (charge === undefined) return decideUnreadable(context, chargeId);
  if (isUnsettled) return settleCharge(context, charge);
  const isRefundedFirst = payment.status === 'refunded' && bound === null && isQuoted(payment, charge);
  return isRefundedFirst ? bindToRefunded(payment, charge) : addCharge(context, charge);
}

/** An admin said no to this very money; hearing of it again does not change that. */
function isRejected({ status, review_reason }: SettlementPayment): boolean {
  return status === 'failed' && review_reason != null;
}

function readCharge({ amountMinor, currency }: SettlementEvent, id: string): Charge | undefined {
  return amountMinor === undefined || currency === undefined ? undefined : { id, amount_minor: amountMinor, currency };
}

/** Money of a currency we cannot count in is still known not to be what was asked. */
function decideUnreadable({ payment, event }: Context, chargeId: string): SettlementDecision {
  const isForeign = event.currency !== undefined && event.currency !== payment.currency;
  const isUnsettled = payment.status === 'pending' || payment.status === 'failed';
  return isForeign && isUnsettled ? reviewed(payment, chargeId, 'currency_mismatch') : held(payment, 'amount_missing');
}

function reviewed(payment: SettlementPayment, chargeId: string, reason: ReviewReason): SettlementDecision {
  return settled(payment, reason, [{ kind: 'review_payment', payment_id: payment.id, charge_id: chargeId, reason }]);
}

interface Charge extends Money {
  readonly id: string;
}

function settleCharge(context: Context, charge: Charge): SettlementDecision {
  const { payment } = context;
  const obstacle = findObstacle(context, charge);
  if (obstacle !== undefined) return reviewed(payment, charge.id, obstacle);
  return settled(payment, undefined, [
    { kind: 'complete_payment', payment_id: payment.id, charge_id: charge.id },
    grantFor(context, { payment_id: payment.id, apply: payment.apply }),
  ]);
}

/** Money on top of money: never a duplicate, and never a second grant unless the sender declared a renewal. */
function addCharge(context: Context, charge: Charge): SettlementDecision {
  const { payment, event } = context;
  const obstacle = event.renewal === true ? findRenewalObstacle(context, charge) : 'extra_charge';
  const child = {
    kind: 'add_child',
    parent_id: payment.parent_id ?? payment.id,
    charge_id: charge.id,
    amount_minor: charge.amount_minor,
    currency: charge.currency,
  } as const;
  if (obstacle !== undefined) {
    return settled(payment, obstacle, [{ ...child, status: 'needs_review', reason: obstacle }]);
  }
  // A renewal lengthens what is there: it was the provider's clock that asked for it, not the customer.
  const grant = grantFor(context, { payment_id: null, apply: 'extend' });
  return settled(payment, undefined, [{ ...child, status: 'completed', reason: null }, grant]);
}

function bindToRefunded(payment: SettlementPayment, charge: Charge): SettlementDecision {
  const actions: SettlementAction[] = [{ kind: 'bind_charge', payment_id: payment.id, charge_id: charge.id }];
  return { outcome: 'ignored', reason: 'already_refunded', payment_id: payment.id, actions };
}

function isQuoted(payment: SettlementPayment, money: Money): boolean {
  return payment.currency === money.currency && payment.amount_minor === money.amount_minor;
}

function findObstacle(context: Context, money: Money): ReviewReason | undefined {
  const { payment, snapshot } = context;
  if (payment.currency !== money.currency) return 'currency_mismatch';
  if (payment.amount_minor !== money.amount_minor) return 'amount_mismatch';
  // The unique index says the same; asked here, the money waits for a person instead of failing for ever.
  if (snapshot.periods.some((period) => period.payment_id === payment.id)) return 'already_granted';
  return findGrantObstacle(snapshot);
}

function findRenewalObstacle(context: Context, money: Money): ReviewReason | undefined {
  const { payment, snapshot } = context;
  if (payment.status === 'needs_review') return 'extra_charge';
  if (payment.currency !== money.currency) return 'currency_mismatch';
  if (payment.amount_minor !== money.amount_minor) return 'amount_mismatch';
  return findGrantObstacle(snapshot);
}

function findGrantObstacle(
  snapshot: Pick<SettlementSnapshot, 'user' | 'periods'>,
): 'user_removed' | 'already_lifetime' | undefined {
  if (snapshot.user.removed_at !== null) return 'user_removed';
  return hasLifetime(foldPeriods(snapshot.periods)) ? 'already_lifetime' : undefined;
}

function grantFor(
  { payment, snapshot, now }: Pick<Context, 'payment' | 'snapshot' | 'now'>,
  grant: { readonly payment_id: number | null; readonly apply: Apply; readonly cut_seconds?: number },
): Extract<SettlementAction, { kind: 'grant_period' }> {
  const { terms, amount_minor: price_minor, currency } = payment;
  const { payment_id, ...placing } = grant;
  const origin = { source: 'payment', payment_id, price_minor, currency, reason: null } as const;
  return { kind: 'grant_period', payment_id, ...placeGrant(snapshot.periods, { terms, origin, now, ...placing }) };
}

function decideFailed({ event, payment }: Context): SettlementDecision {
  if (payment.status !== 'pending') {
    return ignored(payment, 'payment_not_pending');
  }
  if (namesOtherCharge(payment, event)) return held(payment, 'charge_mismatch');
  return settled(payment, undefined, [{ kind: 'fail_payment', payment_id: payment.id }]);
}

function namesOtherCharge(payment: SettlementPayment, event: SettlementEvent): boolean {
  const { provider_payment_id: bound } = payment;
  return bound !== null && event.chargeId !== undefined && event.chargeId !== bound;
}

function decideRefunded(context: Context): SettlementDecision {
  const { snapshot, event, payment } = context;
  const { refundId, amountMinor, currency } = event;
  if (refundId === undefined) return held(payment, 'refund_id_missing');
  if (amountMinor === undefined || currency === undefined || amountMinor <= 0) return held(payment, 'amount_missing');
  const known = snapshot.refunds.find((refund) => refund.provider_refund_id === refundId);
  if (known !== undefined && known.payment_id !== payment.id) return held(payment, 'identifiers_disagree');
  const paid = receivedFor(payment, snapshot);
  if (currency !== paid.currency) return held(payment, 'currency_mismatch');
  if (known !== undefined && known.amount_minor !== amountMinor) return held(payment, 'refund_amount_mismatch');
  if (known?.status === 'succeeded') return duplicate(payment);
  if (namesOtherCharge(payment, event)) return otherChargeNamed(payment);
  if (isLost(snapshot) && payment.refunded_minor >= paid.amount_minor) return ignored(payment, 'already_refunded');
  if (payment.refunded_minor + amountMinor > paid.amount_minor) return held(payment, 'refund_exceeds_payment');
  const refund = { row: known ?? ownRequest(snapshot, payment, amountMinor), provider_refund_id: refundId };
  return applyRefund(context, { ...refund, amount_minor: amountMinor, paid_minor: paid.amount_minor });
}

function receivedFor(payment: SettlementPayment, snapshot: SettlementSnapshot): Money {
  return snapshot.received ?? payment;
}

/** The charge may be an extra one whose own event is still on its way; for money not yet settled it is a contradiction. */
function otherChargeNamed(payment: SettlementPayment): SettlementDecision {
  return hasReceivedMoney(payment.status) ? waiting(payment, 'charge_unknown') : held(payment, 'charge_mismatch');
}

/** Our own refund request whose answer is not stored yet: the provider's event can overtake it. */
function ownRequest(
  snapshot: SettlementSnapshot,
  payment: SettlementPayment,
  amountMinor: number,
): RefundFacts | undefined {
  return snapshot.refunds.find(
    (refund) =>
      refund.payment_id === payment.id &&
      refund.status === 'pending' &&
      refund.provider_refund_id === null &&
      refund.amount_minor === amountMinor,
  );
}

interface RefundStep {
  readonly row: RefundFacts | undefined;
  readonly provider_refund_id: string | null;
  readonly amount_minor: number;
  readonly paid_minor: number;
}

function applyRefund(context: Context, step: RefundStep): SettlementDecision {
  const { payment, event } = context;
  const refunded = payment.refunded_minor + step.amount_minor;
  const status = statusAfterRefund(payment, refunded === step.paid_minor);
  // Part of money that is not known to have come: it comes first, then the refund cuts what it bought.
  if (status === undefined) return waiting(payment, 'payment_not_settled');
  const cuts = isPaid(payment.status) ? cutsFor(context, { refunded, paid: step.paid_minor }) : [];
  const flag = cuts === 'lifetime_partial_refund' ? cuts : null;
  const actions: SettlementAction[] = [
    { kind: 'mark_refunded', payment_id: payment.id, status, refunded_minor: refunded, review_reason: flag },
    {
      kind: 'record_refund',
      payment_id: payment.id,
      refund_id: step.row?.id ?? null,
      provider_refund_id: step.provider_refund_id,
      amount_minor: step.amount_minor,
    },
  ];
  if (payment.provider_payment_id === null && event.chargeId !== undefined) {
    actions.unshift({ kind: 'bind_charge', payment_id: payment.id, charge_id: event.chargeId });
  }
  if (cuts !== 'lifetime_partial_refund') actions.push(...cuts);
  return settled(payment, flag ?? undefined, actions);
}

/** Undefined when the refund must wait. Money in review or rejected goes back without having bought anything. */
function statusAfterRefund(
  payment: SettlementPayment,
  isWhole: boolean,
): Extract<SettlementAction, { kind: 'mark_refunded' }>['status'] | undefined {
  if (isRejected(payment)) return 'failed';
  if (payment.status === 'needs_review' && !isWhole) return 'needs_review';
  const status = isWhole ? 'refunded' : 'partially_refunded';
  return canMove(payment.status, status) ? status : undefined;
}

function cutsFor(
  { snapshot, payment, now }: Pick<Context, 'snapshot' | 'payment' | 'now'>,
  money: { readonly refunded: number; readonly paid: number },
): SettlementAction[] | 'lifetime_partial_refund' {
  const pieces = piecesOf(foldPeriods(snapshot.periods), payment.id);
  const isLifetime = pieces.some(({ length_seconds }) => length_seconds === null);
  if (isLifetime && money.refunded < money.paid) return 'lifetime_partial_refund';
  const cuts = refundCuts(pieces, { refundedMinor: money.refunded, paidMinor: money.paid, at: now });
  return cuts.map((cut) => ({ kind: 'cut_period', ...cut }));
}

/**
 * A dispute suspends until it is decided; one that is lost takes back all that is left. Whichever of its events comes
 * first, the end is the same.
 */
function decideDispute(context: Context, type: 'disputed' | 'dispute_won' | 'dispute_lost'): SettlementDecision {
  const { snapshot, event, payment } = context;
  const wouldBe = ({ disputed: 'open', dispute_won: 'won', dispute_lost: 'lost' } as const)[type];
  const disputes = snapshot.disputes ?? [];
  const known = disputes.find(({ dispute_id }) => dispute_id === (event.refundId ?? null));
  if (known?.state === wouldBe) return duplicate(payment);
  if (known !== undefined && known.state !== 'open') {
    return wouldBe === 'open' ? ignored(payment, 'dispute_decided') : held(payment, 'dispute_decided');
  }
  if (namesOtherCharge(payment, event)) return otherChargeNamed(payment);
  if (!hasReceivedMoney(payment.status) && !isRejected(payment)) return waiting(payment, 'payment_not_settled');
  // The loss is recorded as a refund under the id of the dispute, which no refund may have.
  const isTaken = snapshot.refunds.some(
    ({ provider_refund_id }) => provider_refund_id !== null && provider_refund_id === event.refundId,
  );
  if (wouldBe === 'lost' && isTaken) return held(payment, 'identifiers_disagree');
  const isOpen = wouldBe === 'open' || disputes.some((dispute) => dispute !== known && dispute.state === 'open');
  const money = wouldBe === 'lost' ? lostMoney(context) : [];
  return settled(payment, undefined, [...money, suspension(context, isOpen)]);
}

/** Until the last open dispute is decided, from when the first was heard of. */
function suspension({ payment, now }: Context, isOpen: boolean): SettlementAction {
  const disputed_at = isOpen ? ((payment.disputed_at ?? now) as Instant) : null;
  return { kind: 'mark_disputed', payment_id: payment.id, disputed_at };
}

/** All that is left goes back, recorded under the id of the dispute. */
function lostMoney(context: Context): readonly SettlementAction[] {
  const { snapshot, event, payment } = context;
  const paid = receivedFor(payment, snapshot).amount_minor;
  const amount = paid - payment.refunded_minor;
  if (amount <= 0) return [];
  const provider_refund_id = event.refundId ?? null;
  return applyRefund(context, { row: undefined, provider_refund_id, amount_minor: amount, paid_minor: paid }).actions;
}

function isLost({ disputes = [] }: SettlementSnapshot): boolean {
  return disputes.some(({ state }) => state === 'lost');
}

/** A refund that an admin made or recorded, at the moment it is known to have succeeded. */
export interface AdminRefund {
  readonly amountMinor: number;
  /** Our row, if it was written before the provider was asked. */
  readonly row?: RefundFacts | undefined;
  readonly providerRefundId?: string | undefined;
}

/** What an admin's act does, or the code of the refusal. */
export type AdminDecision =
  | { readonly ok: true; readonly actions: readonly SettlementAction[] }
  | { readonly ok: false; readonly code: ErrorCode };

/** As a `refunded` event, for a refund that starts on our side. Refuses what the event would be held or parked for. */
export function decideAdminRefund(
  snapshot: SettlementSnapshot & { readonly payment: SettlementPayment },
  refund: AdminRefund,
  now: string,
): AdminDecision {
  const { payment } = snapshot;
  const paid = receivedFor(payment, snapshot).amount_minor;
  if (refund.amountMinor <= 0 || payment.refunded_minor + refund.amountMinor > paid) {
    return { ok: false, code: 'validation_failed' };
  }
  const hasMoney = isPaid(payment.status) || payment.status === 'needs_review' || isRejected(payment);
  if (!hasMoney) return { ok: false, code: 'payment_not_open' };
  const event: SettlementEvent = { provider: payment.provider, type: 'refunded' };
  const decision = applyRefund(
    { snapshot, event, payment, now },
    {
      row: refund.row,
      provider_refund_id: refund.providerRefundId ?? null,
      amount_minor: refund.amountMinor,
      paid_minor: paid,
    },
  );
  return decision.outcome === 'settled'
    ? { ok: true, actions: decision.actions }
    : { ok: false, code: 'payment_not_open' };
}

/**
 * What an admin's word on a payment does: `accept` grants what was sold for it, `reject` fails it. Only for payments in
 * review and for pending `manual` ones.
 */
export function decideResolution(
  snapshot: Pick<SettlementSnapshot, 'user' | 'periods' | 'received'> & { readonly payment: SettlementPayment },
  verdict: 'accept' | 'reject',
  now: string,
): AdminDecision {
  const { payment } = snapshot;
  const isResolvable =
    payment.status === 'needs_review' || (payment.status === 'pending' && payment.provider === 'manual');
  if (!isResolvable) return { ok: false, code: 'payment_not_open' };
  if (verdict === 'reject') return { ok: true, actions: [{ kind: 'fail_payment', payment_id: payment.id }] };
  const obstacle = findGrantObstacle(snapshot);
  if (obstacle === 'already_lifetime') return { ok: false, code: 'already_lifetime' };
  if (obstacle === 'user_removed') return { ok: false, code: 'user_not_found' };
  if (snapshot.periods.some((period) => period.payment_id === payment.id)) {
    return { ok: false, code: 'payment_conflict' };
  }
  const context = { payment, snapshot: { ...snapshot, refunds: [] }, now };
  return {
    ok: true,
    actions: [
      { kind: 'complete_payment', payment_id: payment.id, charge_id: payment.provider_payment_id },
      ...grantAccepted(context),
    ],
  };
}

/** What went back while the payment was in review cuts what it buys, as it would have afterwards. */
function grantAccepted(context: Omit<Context, 'event'>): SettlementAction[] {
  const { payment, snapshot } = context;
  const grant = { payment_id: payment.id, apply: payment.apply };
  if (payment.refunded_minor === 0) return [grantFor(context, grant)];
  const days = payment.terms.duration_days;
  const paid = receivedFor(payment, snapshot).amount_minor;
  const cut_seconds = days === null ? 0 : proportion(days * DAY_SECONDS, payment.refunded_minor, paid);
  const refunded: SettlementAction = {
    kind: 'mark_refunded',
    payment_id: payment.id,
    status: 'partially_refunded',
    refunded_minor: payment.refunded_minor,
    review_reason: days === null ? 'lifetime_partial_refund' : null,
  };
  return [grantFor(context, { ...grant, cut_seconds }), refunded];
}

function settled(
  payment: SettlementPayment,
  reason: SettlementReason | undefined,
  actions: readonly SettlementAction[],
): SettlementDecision {
  const base = { outcome: 'settled', payment_id: payment.id, actions } as const;
  return reason === undefined ? base : { ...base, reason };
}

function held(payment: SettlementPayment, reason: SettlementReason): SettlementDecision {
  return { outcome: 'held', reason, payment_id: payment.id, actions: [] };
}

function ignored(payment: SettlementPayment, reason: SettlementReason): SettlementDecision {
  return { outcome: 'ignored', reason, payment_id: payment.id, actions: [] };
}

function duplicate(payment: SettlementPayment): SettlementDecision {
  return { outcome: 'duplicate', payment_id: payment.id, actions: [] };
}

function waiting(payment: SettlementPayment | null, reason: SettlementReason): SettlementDecision {
  return { outcome: 'parked', reason, payment_id: payment?.id ?? null, actions: [] };
}

function assertNever(value: never): never {
  throw new TypeError(`unhandled case: ${String(value)}`);
}

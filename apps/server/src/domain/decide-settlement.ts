import { decideDispute } from './decide-dispute.ts';
import { decideRefunded } from './decide-refund.ts';
import { findGrantObstacle, grantFor } from './grant-paid.ts';
import type { ReviewReason } from './payment.ts';
import {
  duplicate,
  held,
  ignored,
  isRejected,
  type Money,
  namesOtherCharge,
  type SettlementAction,
  type SettlementContext,
  type SettlementDecision,
  type SettlementEvent,
  type SettlementPayment,
  type SettlementReason,
  type SettlementSnapshot,
  settled,
  waiting,
} from './settlement.ts';

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
  const context: SettlementContext = { snapshot, event, payment, now };
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

function decideCompleted(context: SettlementContext): SettlementDecision {
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

function readCharge({ amountMinor, currency }: SettlementEvent, id: string): Charge | undefined {
  return amountMinor === undefined || currency === undefined ? undefined : { id, amount_minor: amountMinor, currency };
}

/** Money of a currency we cannot count in is still known not to be what was asked. */
function decideUnreadable({ payment, event }: SettlementContext, chargeId: string): SettlementDecision {
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

function settleCharge(context: SettlementContext, charge: Charge): SettlementDecision {
  const { payment } = context;
  const obstacle = findObstacle(context, charge);
  if (obstacle !== undefined) return reviewed(payment, charge.id, obstacle);
  return settled(payment, undefined, [
    { kind: 'complete_payment', payment_id: payment.id, charge_id: charge.id },
    grantFor(context, { payment_id: payment.id, apply: payment.apply }),
  ]);
}

/** Money on top of money: never a duplicate, and never a second grant unless the sender declared a renewal. */
function addCharge(context: SettlementContext, charge: Charge): SettlementDecision {
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

function findObstacle(context: SettlementContext, money: Money): ReviewReason | undefined {
  const { payment, snapshot } = context;
  if (payment.currency !== money.currency) return 'currency_mismatch';
  if (payment.amount_minor !== money.amount_minor) return 'amount_mismatch';
  // The unique index says the same; asked here, the money waits for a person instead of failing for ever.
  if (snapshot.periods.some((period) => period.payment_id === payment.id)) return 'already_granted';
  return findGrantObstacle(snapshot);
}

function findRenewalObstacle(context: SettlementContext, money: Money): ReviewReason | undefined {
  const { payment, snapshot } = context;
  if (payment.status === 'needs_review') return 'extra_charge';
  if (payment.currency !== money.currency) return 'currency_mismatch';
  if (payment.amount_minor !== money.amount_minor) return 'amount_mismatch';
  return findGrantObstacle(snapshot);
}

function decideFailed({ event, payment }: SettlementContext): SettlementDecision {
  if (payment.status !== 'pending') {
    return ignored(payment, 'payment_not_pending');
  }
  if (namesOtherCharge(payment, event)) return held(payment, 'charge_mismatch');
  return settled(payment, undefined, [{ kind: 'fail_payment', payment_id: payment.id }]);
}

function assertNever(value: never): never {
  throw new TypeError(`unhandled case: ${String(value)}`);
}

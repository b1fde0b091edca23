import { canMove, hasReceivedMoney, isPaid } from './payment.ts';
import {
  type AdminDecision,
  duplicate,
  held,
  ignored,
  isRejected,
  namesOtherCharge,
  type RefundFacts,
  receivedFor,
  type SettlementAction,
  type SettlementContext,
  type SettlementDecision,
  type SettlementEvent,
  type SettlementPayment,
  type SettlementSnapshot,
  settled,
  waiting,
} from './settlement.ts';
import { foldPeriods, piecesOf, refundCuts } from './subscription.ts';

export function decideRefunded(context: SettlementContext): SettlementDecision {
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

/** The charge may be an extra one whose own event is still on its way; for money not yet settled it is a contradiction. */
export function otherChargeNamed(payment: SettlementPayment): SettlementDecision {
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

export function applyRefund(context: SettlementContext, step: RefundStep): SettlementDecision {
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
  { snapshot, payment, now }: Pick<SettlementContext, 'snapshot' | 'payment' | 'now'>,
  money: { readonly refunded: number; readonly paid: number },
): SettlementAction[] | 'lifetime_partial_refund' {
  const pieces = piecesOf(foldPeriods(snapshot.periods), payment.id);
  const isLifetime = pieces.some(({ length_seconds }) => length_seconds === null);
  if (isLifetime && money.refunded < money.paid) return 'lifetime_partial_refund';
  const cuts = refundCuts(pieces, { refundedMinor: money.refunded, paidMinor: money.paid, at: now });
  return cuts.map((cut) => ({ kind: 'cut_period', ...cut }));
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

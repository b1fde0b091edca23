import { findGrantObstacle, grantFor } from './grant-paid.ts';
import { DAY_SECONDS } from './instant.ts';
import { proportion } from './money.ts';
import {
  type AdminDecision,
  receivedFor,
  type SettlementAction,
  type SettlementContext,
  type SettlementPayment,
  type SettlementSnapshot,
} from './settlement.ts';

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
function grantAccepted(context: Omit<SettlementContext, 'event'>): SettlementAction[] {
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

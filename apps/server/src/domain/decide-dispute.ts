import { applyRefund, otherChargeNamed } from './decide-refund.ts';
import type { Instant } from './instant.ts';
import { hasReceivedMoney } from './payment.ts';
import {
  duplicate,
  held,
  ignored,
  isRejected,
  namesOtherCharge,
  receivedFor,
  type SettlementAction,
  type SettlementContext,
  type SettlementDecision,
  settled,
  waiting,
} from './settlement.ts';

/**
 * A dispute suspends until it is decided; one that is lost takes back all that is left. Whichever of its events comes
 * first, the end is the same.
 */
export function decideDispute(
  context: SettlementContext,
  type: 'disputed' | 'dispute_won' | 'dispute_lost',
): SettlementDecision {
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
function suspension({ payment, now }: SettlementContext, isOpen: boolean): SettlementAction {
  const disputed_at = isOpen ? ((payment.disputed_at ?? now) as Instant) : null;
  return { kind: 'mark_disputed', payment_id: payment.id, disputed_at };
}

/** All that is left goes back, recorded under the id of the dispute. */
function lostMoney(context: SettlementContext): readonly SettlementAction[] {
  const { snapshot, event, payment } = context;
  const paid = receivedFor(payment, snapshot).amount_minor;
  const amount = paid - payment.refunded_minor;
  if (amount <= 0) return [];
  const provider_refund_id = event.refundId ?? null;
  return applyRefund(context, { row: undefined, provider_refund_id, amount_minor: amount, paid_minor: paid }).actions;
}

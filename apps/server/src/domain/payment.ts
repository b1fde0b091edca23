export type PaymentStatus = 'pending' | 'completed' | 'failed' | 'refunded' | 'partially_refunded' | 'needs_review';

/** Why a payment waits for a person, or carries a remark. */
export type ReviewReason =
  | 'amount_mismatch'
  | 'currency_mismatch'
  | 'already_lifetime'
  | 'already_granted'
  | 'user_removed'
  | 'extra_charge'
  | 'lifetime_partial_refund';

const MOVES: Readonly<Record<PaymentStatus, readonly PaymentStatus[]>> = {
  pending: ['completed', 'failed', 'needs_review', 'refunded'],
  // A provider that gave up on a payment can still deliver the money later.
  failed: ['completed', 'needs_review'],
  needs_review: ['completed', 'failed', 'refunded'],
  completed: ['partially_refunded', 'refunded'],
  partially_refunded: ['partially_refunded', 'refunded'],
  refunded: [],
};

/** True when a payment may go from one status to the other. Staying is a move only for a further partial refund. */
export function canMove(from: PaymentStatus, to: PaymentStatus): boolean {
  return MOVES[from].includes(to);
}

/** True while the customer may still pay it. */
export function isOpen(status: PaymentStatus): boolean {
  return status === 'pending';
}

/** True once its money bought a period: a payment in these states has exactly one grant. */
export function isPaid(status: PaymentStatus): boolean {
  return status === 'completed' || status === 'partially_refunded';
}

/** True when money is known to have come, so that another charge is more money and not this one. */
export function hasReceivedMoney(status: PaymentStatus): boolean {
  return isPaid(status) || status === 'refunded' || status === 'needs_review';
}

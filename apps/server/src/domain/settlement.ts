import type { ErrorCode } from './errors.ts';
import type { Instant } from './instant.ts';
import type { PaymentStatus, ReviewReason } from './payment.ts';
import type { Apply, MovablePeriod, NewPeriod, Placement, TariffTerms } from './subscription.ts';

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
  /**
   * The refunds of the payment found, and any with the event's provider and refund id. These and what follows are only
   * looked at for money that goes back.
   */
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

/** What an admin's act does, or the code of the refusal. */
export type AdminDecision =
  | { readonly ok: true; readonly actions: readonly SettlementAction[] }
  | { readonly ok: false; readonly code: ErrorCode };

/** What every decision is made from: one event, the payment it is about, and all that may be looked at. */
export interface SettlementContext {
  readonly snapshot: SettlementSnapshot;
  readonly event: SettlementEvent;
  readonly payment: SettlementPayment;
  readonly now: string;
}

export function settled(
  payment: SettlementPayment,
  reason: SettlementReason | undefined,
  actions: readonly SettlementAction[],
): SettlementDecision {
  const base = { outcome: 'settled', payment_id: payment.id, actions } as const;
  return reason === undefined ? base : { ...base, reason };
}

export function held(payment: SettlementPayment, reason: SettlementReason): SettlementDecision {
  return { outcome: 'held', reason, payment_id: payment.id, actions: [] };
}

export function ignored(payment: SettlementPayment, reason: SettlementReason): SettlementDecision {
  return { outcome: 'ignored', reason, payment_id: payment.id, actions: [] };
}

export function duplicate(payment: SettlementPayment): SettlementDecision {
  return { outcome: 'duplicate', payment_id: payment.id, actions: [] };
}

export function waiting(payment: SettlementPayment | null, reason: SettlementReason): SettlementDecision {
  return { outcome: 'parked', reason, payment_id: payment?.id ?? null, actions: [] };
}

/** Whether an event is about money that came before, rather than about money that comes or does not. */
export function goesBack({ type }: Pick<SettlementEvent, 'type'>): boolean {
  return type !== 'completed' && type !== 'failed';
}

/** An admin said no to this very money; hearing of it again does not change that. */
export function isRejected({ status, review_reason }: SettlementPayment): boolean {
  return status === 'failed' && review_reason != null;
}

/** The event is about other money than what the payment is bound to. */
export function namesOtherCharge(payment: SettlementPayment, event: SettlementEvent): boolean {
  const { provider_payment_id: bound } = payment;
  return bound !== null && event.chargeId !== undefined && event.chargeId !== bound;
}

/** The money that refunds are measured by. */
export function receivedFor(payment: SettlementPayment, snapshot: SettlementSnapshot): Money {
  return snapshot.received ?? payment;
}

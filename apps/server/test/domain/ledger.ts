import { decideSettlement } from '../../src/domain/decide-settlement.ts';
import type { Instant } from '../../src/domain/instant.ts';
import { canMove, type PaymentStatus } from '../../src/domain/payment.ts';
import type {
  AdminDecision,
  DisputeFacts,
  RefundFacts,
  SettlementAction,
  SettlementDecision,
  SettlementEvent,
  SettlementPayment,
  SettlementSnapshot,
} from '../../src/domain/settlement.ts';
import { foldPeriods, type NewPeriod } from '../../src/domain/subscription.ts';
import { terms } from './periods.ts';

type PeriodRow = Omit<NewPeriod, 'revoked_at'> & {
  readonly id: number;
  readonly user_id: number;
  readonly revoked_at: string | null;
};
type PaymentRow = SettlementPayment & { readonly charged?: { amount_minor: number; currency: string } };
type ActionOf<Kind extends SettlementAction['kind']> = Extract<SettlementAction, { kind: Kind }>;
type DisputeRow = DisputeFacts & { readonly payment_id: number };
type RefundRow = RefundFacts & { readonly provider: string };

/**
 * Rows in memory and the actions applied to them as the use cases do, with every rule the database would enforce. It
 * throws where a constraint would fail or a payment would leave its graph.
 */
export class Ledger {
  payments: PaymentRow[] = [];
  periods: PeriodRow[] = [];
  refunds: RefundRow[] = [];
  disputes: DisputeRow[] = [];
  parked: SettlementEvent[] = [];
  removedUsers = new Set<number>();

  open(overrides: Partial<SettlementPayment> = {}): SettlementPayment {
    const id = this.payments.length + 1;
    const payment: SettlementPayment = {
      id,
      parent_id: null,
      user_id: 7,
      reference: `ref-${id}`,
      provider: 'standard',
      provider_payment_id: null,
      status: 'pending',
      amount_minor: 999,
      currency: 'USD',
      refunded_minor: 0,
      apply: 'now',
      terms: terms(),
      ...overrides,
    };
    this.payments.push(payment);
    return payment;
  }

  payment(id: number): PaymentRow {
    const found = this.payments.find((row) => row.id === id);
    if (found === undefined) throw new Error(`no payment ${id}`);
    return found;
  }

  grantsOf(paymentId: number): PeriodRow[] {
    return this.periods.filter((row) => row.payment_id === paymentId);
  }

  chainOf(userId: number) {
    return foldPeriods(this.periods.filter((row) => row.user_id === userId));
  }

  snapshot(event: SettlementEvent, forcedId?: number): SettlementSnapshot {
    const byReference = this.payments.find((row) => row.reference === event.reference);
    const byCharge = this.payments.find(
      (row) => row.provider === event.provider && row.provider_payment_id === (event.chargeId ?? Symbol('none')),
    );
    const forced = this.payments.find((row) => row.id === forcedId);
    return this.around(byCharge ?? forced ?? byReference, event, { byReference, byCharge, forced });
  }

  /** A snapshot around one payment, for acts of an admin. */
  snapshotOf(paymentId: number): SettlementSnapshot & { readonly payment: SettlementPayment } {
    const payment = this.payment(paymentId);
    return { ...this.around(payment, undefined, {}), payment };
  }

  private around(
    payment: PaymentRow | undefined,
    event: SettlementEvent | undefined,
    found: Pick<SettlementSnapshot, 'byReference' | 'byCharge' | 'forced'>,
  ): SettlementSnapshot {
    const isKnownRefund = (row: RefundRow) =>
      row.provider === event?.provider && row.provider_refund_id === (event.refundId ?? Symbol('none'));
    return {
      ...found,
      user: { removed_at: this.removedUsers.has(payment?.user_id ?? 0) ? '2026-01-01T00:00:00.000Z' : null },
      periods: this.periods.filter((row) => row.user_id === payment?.user_id),
      refunds: this.refunds.filter((row) => row.payment_id === payment?.id || isKnownRefund(row)),
      disputes: this.disputes.filter((row) => row.payment_id === payment?.id),
      received: payment?.charged,
    };
  }

  /** Decides and applies one event; a parked one is kept and tried again after every change. */
  receive(event: SettlementEvent, now: Instant, forcedId?: number): SettlementDecision {
    const decision = this.decide(event, now, forcedId);
    if (decision.outcome === 'parked') this.parked.push(event);
    if (decision.actions.length > 0) this.retryParked(now);
    return decision;
  }

  private decide(event: SettlementEvent, now: Instant, forcedId?: number): SettlementDecision {
    const decision = decideSettlement(this.snapshot(event, forcedId), event, now);
    this.apply(decision.actions, event);
    if (decision.outcome === 'settled') this.noteDispute(decision, event);
    return decision;
  }

  /** What the settled rows of the inbox say afterwards. */
  private noteDispute({ payment_id }: SettlementDecision, { type, refundId }: SettlementEvent): void {
    if (type !== 'disputed' && type !== 'dispute_won' && type !== 'dispute_lost') return;
    const state = ({ disputed: 'open', dispute_won: 'won', dispute_lost: 'lost' } as const)[type];
    const row = { payment_id: payment_id ?? 0, dispute_id: refundId ?? null, state };
    const isSame = (other: DisputeRow) => other.payment_id === payment_id && other.dispute_id === row.dispute_id;
    this.disputes = [...this.disputes.filter((other) => !isSame(other)), row];
  }

  private retryParked(now: Instant): void {
    const waiting = this.parked;
    this.parked = [];
    let hasActed = false;
    for (const event of waiting) {
      const decision = this.decide(event, now);
      if (decision.outcome === 'parked') this.parked.push(event);
      hasActed ||= decision.actions.length > 0;
    }
    if (hasActed) this.retryParked(now);
  }

  act(decision: AdminDecision): void {
    if (!decision.ok) throw new Error(`refused: ${decision.code}`);
    this.apply(decision.actions, undefined);
  }

  apply(actions: readonly SettlementAction[], event: SettlementEvent | undefined): void {
    let childId: number | undefined;
    for (const action of actions) childId = this.applyOne(action, event, childId) ?? childId;
  }

  private applyOne(action: SettlementAction, event: SettlementEvent | undefined, child: number | undefined) {
    switch (action.kind) {
      case 'complete_payment':
        return this.update(action.payment_id, { status: 'completed', provider_payment_id: action.charge_id });
      case 'review_payment':
        return this.update(action.payment_id, {
          status: 'needs_review',
          provider_payment_id: action.charge_id,
          charged: { amount_minor: event?.amountMinor ?? 0, currency: event?.currency ?? '' },
        });
      case 'fail_payment':
        return this.update(action.payment_id, { status: 'failed' });
      case 'bind_charge':
        return this.update(action.payment_id, { provider_payment_id: action.charge_id });
      case 'add_child':
        return this.addChild(action);
      case 'grant_period':
        return this.grant(action.payment_id ?? child, action);
      case 'record_refund':
        return this.recordRefund(action);
      case 'mark_refunded':
        return this.markRefunded(action);
      case 'mark_disputed':
        return this.update(action.payment_id, { disputed_at: action.disputed_at });
      case 'cut_period': {
        const { kind: _, period_id, ...change } = action;
        this.periods = this.periods.map((row) => (row.id === period_id ? { ...row, ...change } : row));
      }
    }
    return undefined;
  }

  private update(id: number, change: Partial<PaymentRow> & { status?: PaymentStatus }): undefined {
    const before = this.payment(id);
    if (change.status !== undefined && !canMove(before.status, change.status)) {
      throw new Error(`payment ${id} moved from ${before.status} to ${change.status}`);
    }
    if (before.provider_payment_id !== null && change.provider_payment_id !== undefined) {
      if (change.provider_payment_id !== before.provider_payment_id) throw new Error(`charge of payment ${id} changed`);
    }
    const after = { ...before, ...change };
    this.assertChargeFree(after);
    this.payments = this.payments.map((row) => (row.id === id ? after : row));
  }

  private markRefunded({ payment_id, status, refunded_minor }: ActionOf<'mark_refunded'>): undefined {
    const mayStay = status === 'needs_review' || status === 'failed';
    if (mayStay && this.payment(payment_id).status !== status) throw new Error(`payment ${payment_id} may not move`);
    return this.update(payment_id, { refunded_minor, ...(mayStay ? {} : { status }) });
  }

  private addChild(action: ActionOf<'add_child'>): number {
    const { parent_id, charge_id, status, amount_minor, currency } = action;
    const parent = this.payment(parent_id);
    if (parent.parent_id !== null) throw new Error('a child of a child');
    const child: PaymentRow = {
      ...parent,
      id: this.payments.length + 1,
      reference: `ref-${this.payments.length + 1}`,
      parent_id,
      provider_payment_id: charge_id,
      status,
      amount_minor,
      currency,
      refunded_minor: 0,
      disputed_at: null,
      apply: 'extend',
    };
    this.assertChargeFree(child);
    this.payments.push(child);
    return child.id;
  }

  private assertChargeFree(payment: PaymentRow): void {
    const isTaken = this.payments.some(
      (row) =>
        row.id !== payment.id &&
        row.provider === payment.provider &&
        row.provider_payment_id !== null &&
        row.provider_payment_id === payment.provider_payment_id,
    );
    if (isTaken) throw new Error('unique (provider, provider_payment_id)');
  }

  private grant(paymentId: number | undefined, { period, moves, requeued }: ActionOf<'grant_period'>): undefined {
    if (paymentId === undefined) throw new Error('a grant for no payment');
    const { user_id } = this.payment(paymentId);
    if (this.grantsOf(paymentId).length > 0) throw new Error('unique (payment_id)');
    const moved = new Map(moves.map((move) => [move.period_id, move.moved_seconds]));
    const places = new Map(requeued.map((row) => [row.period_id, row.seq]));
    this.periods = this.periods.map((row) => ({
      ...row,
      seq: places.get(row.id) ?? row.seq,
      moved_seconds: moved.get(row.id) ?? row.moved_seconds,
    }));
    for (const added of [{ ...period, payment_id: paymentId }, ...moves.map((move) => move.rest)]) {
      if (this.periods.some((row) => row.user_id === user_id && row.seq === added.seq)) throw new Error('unique seq');
      this.periods.push({ ...added, id: this.periods.length + 1, user_id });
    }
  }

  private recordRefund(action: ActionOf<'record_refund'>): undefined {
    const { payment_id, refund_id, provider_refund_id, amount_minor } = action;
    const { provider } = this.payment(payment_id);
    const isTaken = (row: RefundRow) =>
      row.id !== refund_id && row.provider === provider && row.provider_refund_id === provider_refund_id;
    if (provider_refund_id !== null && this.refunds.some(isTaken)) throw new Error('unique (provider, refund id)');
    const row: RefundRow = {
      id: refund_id ?? this.refunds.length + 1,
      payment_id,
      provider,
      provider_refund_id,
      amount_minor,
      status: 'succeeded',
    };
    this.refunds = [...this.refunds.filter((other) => other.id !== row.id), row];
  }
}

import {
  findPayment,
  insertPayment,
  insertRefund,
  type PaymentPatch,
  type PaymentRow,
  type SubscriptionPeriodRow,
  type Tx,
  updatePayment,
  updateRefund,
} from '@vpn-api/db';
import { newReference } from '../crypto/random.ts';
import type { Instant } from '../domain/instant.ts';
import type { SettlementAction } from '../domain/settlement.ts';
import type { Services } from '../services.ts';
import { cutPeriod, insertPlacement, loadChain } from './subscription-chain.ts';
import { tellPayment, tellPeriod } from './tell-money.ts';
import { wakeHostsOf } from './wake-hosts.ts';

export type SettleDeps = Pick<Services, 'clock' | 'random' | 'reconciler' | 'parkedEvents' | 'outbox'>;

interface Decided {
  readonly actions: readonly SettlementAction[];
  readonly provider: string;
  readonly userId: number;
}

/** Writes a decision, in the order it was given. The caller holds the user's lock. */
export async function applyActions(deps: SettleDeps, tx: Tx, decided: Decided): Promise<void> {
  if (decided.actions.length === 0) return;
  const step: Step = { ...decided, deps, now: deps.clock.now(), payments: new Map(), child: null, granted: undefined };
  for (const action of decided.actions) await applyAction(tx, step, action);
  for (const action of decided.actions) await tellAction(tx, step, action);
  await wakeHostsOf(deps, tx, decided.userId);
  // A refund that came before its payment waits in the inbox.
  tx.onCommit(() => deps.parkedEvents.wake());
}

interface Step extends Decided {
  readonly deps: SettleDeps;
  readonly now: Instant;
  /** What this decision changed, as it is now. */
  readonly payments: Map<number, PaymentRow>;
  /** The payment that this decision added, which its period belongs to. */
  child: PaymentRow | null;
  granted: SubscriptionPeriodRow | undefined;
}

type ActionOf<Kind extends SettlementAction['kind']> = Extract<SettlementAction, { kind: Kind }>;

function applyAction(tx: Tx, step: Step, action: SettlementAction): Promise<unknown> {
  switch (action.kind) {
    case 'complete_payment':
      return completePayment(tx, step, action);
    case 'review_payment':
      return reviewPayment(tx, step, action);
    case 'fail_payment':
      return changePayment(tx, step, action.payment_id, { status: 'failed' });
    case 'bind_charge':
      return changePayment(tx, step, action.payment_id, { provider_payment_id: action.charge_id });
    case 'add_child':
      return addChild(tx, step, action);
    case 'grant_period':
      return addPeriod(tx, step, action);
    case 'record_refund':
      return recordRefund(tx, step, action);
    case 'mark_refunded':
      return markRefunded(tx, step, action);
    case 'mark_disputed':
      return changePayment(tx, step, action.payment_id, { disputed_at: action.disputed_at });
    case 'cut_period':
      return cutOwnPeriod(tx, step, action);
  }
}

async function changePayment(tx: Tx, { now, payments }: Step, paymentId: number, patch: PaymentPatch): Promise<void> {
  payments.set(paymentId, await updatePayment(tx, paymentId, { ...patch, updated_at: now }));
}

function completePayment(tx: Tx, step: Step, action: ActionOf<'complete_payment'>): Promise<unknown> {
  const charge = action.charge_id === null ? {} : { provider_payment_id: action.charge_id };
  const patch = { status: 'completed', completed_at: step.now, review_reason: null, ...charge } as const;
  return changePayment(tx, step, action.payment_id, patch);
}

function reviewPayment(tx: Tx, step: Step, action: ActionOf<'review_payment'>): Promise<unknown> {
  const { charge_id, reason, payment_id } = action;
  const patch = { status: 'needs_review', provider_payment_id: charge_id, review_reason: reason } as const;
  return changePayment(tx, step, payment_id, patch);
}

async function addChild(tx: Tx, step: Step, action: ActionOf<'add_child'>): Promise<void> {
  const parent = await findPayment(tx, action.parent_id);
  if (parent === undefined) throw new Error(`payment ${action.parent_id} has vanished`);
  step.child = await insertPayment(tx, {
    reference: newReference(step.deps.random),
    parent_id: parent.id,
    user_id: parent.user_id,
    tariff_id: parent.tariff_id,
    provider: parent.provider,
    provider_payment_id: action.charge_id,
    status: action.status,
    review_reason: action.reason,
    list_amount_minor: parent.list_amount_minor,
    amount_minor: action.amount_minor,
    currency: action.currency,
    tariff_snapshot: parent.tariff_snapshot,
    apply: 'extend',
    created_at: step.now,
    updated_at: step.now,
    completed_at: action.status === 'completed' ? step.now : null,
  });
}

async function addPeriod(tx: Tx, step: Step, { payment_id, period, ...room }: ActionOf<'grant_period'>): Promise<void> {
  const paidBy = { ...period, payment_id: payment_id ?? step.child?.id ?? null };
  step.granted = await insertPlacement(tx, { period: paidBy, ...room }, step);
}

function recordRefund(tx: Tx, { provider, now }: Step, action: ActionOf<'record_refund'>): Promise<unknown> {
  const { payment_id, refund_id, provider_refund_id, amount_minor } = action;
  if (refund_id !== null) return updateRefund(tx, refund_id, { status: 'succeeded', provider_refund_id });
  const row = { payment_id, provider, provider_refund_id, amount_minor, created_at: now };
  return insertRefund(tx, { ...row, source: 'webhook', status: 'succeeded' });
}

function markRefunded(tx: Tx, step: Step, action: ActionOf<'mark_refunded'>): Promise<unknown> {
  const { status, refunded_minor, review_reason } = action;
  const remark = review_reason === null ? {} : { review_reason };
  return changePayment(tx, step, action.payment_id, { status, refunded_minor, ...remark });
}

/** After all of it is written, so that each event tells how the payment is now. */
async function tellAction(tx: Tx, step: Step, action: SettlementAction): Promise<void> {
  const { deps, child, granted } = step;
  switch (action.kind) {
    case 'complete_payment':
      return tellPayment(deps, tx, 'payment.completed', changed(step, action.payment_id));
    case 'review_payment':
      return tellPayment(deps, tx, 'payment.needs_review', changed(step, action.payment_id));
    case 'record_refund':
      return tellPayment(deps, tx, 'payment.refunded', changed(step, action.payment_id));
    case 'add_child':
      return child === null ? undefined : tellPayment(deps, tx, `payment.${action.status}`, child);
    case 'grant_period':
      return granted && tellPeriod(deps, tx, granted);
  }
}

/** Whatever is told of a payment, something of it was changed. */
function changed({ payments }: Step, paymentId: number): PaymentRow {
  const payment = payments.get(paymentId);
  if (payment === undefined) throw new Error(`nothing of payment ${paymentId} was changed`);
  return payment;
}

async function cutOwnPeriod(tx: Tx, { userId }: Step, action: ActionOf<'cut_period'>): Promise<void> {
  const { period_id, cut_seconds, revoked_at } = action;
  await cutPeriod(tx, await loadChain(tx, userId), period_id, { cut_seconds, revoked_at });
}

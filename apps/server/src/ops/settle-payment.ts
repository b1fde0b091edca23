import {
  findEventForCharge,
  findPayment,
  findPaymentByCharge,
  findPaymentByReference,
  findRefundByProviderId,
  insertPayment,
  insertPeriod,
  insertRefund,
  listPeriodsForUser,
  listRefunds,
  lockUser,
  type PaymentRow,
  type Tx,
  updatePayment,
  updateRefund,
} from '@vpn-api/db';
import { newReference } from '../crypto/random.ts';
import {
  decideSettlement,
  type SettlementAction,
  type SettlementDecision,
  type SettlementEvent,
  type SettlementPayment,
  type SettlementSnapshot,
} from '../domain/settlement.ts';
import type { Instant } from '../domain/instant.ts';
import type { TariffTerms } from '../domain/subscription.ts';
import type { Random, Services } from '../services.ts';
import { cutPeriod, loadChain } from './subscription-chain.ts';

export type SettleDeps = Pick<Services, 'clock' | 'random' | 'reconciler' | 'parkedEvents'>;

/**
 * Settles one event inside the caller's transaction: locks the user, reads one snapshot, asks the domain, applies.
 * Nothing here talks to a host; the reconciler is woken by the commit.
 */
export async function settleEvent(
  deps: SettleDeps,
  tx: Tx,
  event: SettlementEvent,
  forcedPaymentId?: number,
): Promise<SettlementDecision> {
  const now = deps.clock.now();
  const { snapshot, userId } = await loadSnapshot(tx, event, forcedPaymentId);
  const decision = decideSettlement(snapshot, event, now);
  await applyActions(deps, tx, { actions: decision.actions, provider: event.provider, userId });
  return decision;
}

interface Loaded {
  readonly snapshot: SettlementSnapshot;
  /** Whose lock is held; 0 when no payment was found and nothing will be done. */
  readonly userId: number;
}

async function loadSnapshot(tx: Tx, event: SettlementEvent, forcedId: number | undefined): Promise<Loaded> {
  const userId = primary(await findCandidates(tx, event, forcedId))?.user_id;
  if (userId === undefined) return { snapshot: { user: { removed_at: null }, periods: [], refunds: [] }, userId: 0 };
  const user = await lockUser(tx, userId);
  // Read again under the lock: what another delivery did meanwhile is what this one must see.
  const found = await findCandidates(tx, event, forcedId);
  const payment = primary(found);
  const snapshot = {
    ...mapValues(found, settlementPayment),
    user: { removed_at: user?.removed_at ?? null },
    periods: await listPeriodsForUser(tx, userId),
    refunds: payment === undefined ? [] : await knownRefunds(tx, payment, event),
    received: payment?.status === 'needs_review' ? await receivedMoney(tx, payment) : undefined,
  };
  return { snapshot, userId };
}

/** The same order of trust as the domain's. */
function primary({ byCharge, forced, byReference }: Candidates): PaymentRow | undefined {
  return byCharge ?? forced ?? byReference;
}

interface Candidates {
  readonly byReference: PaymentRow | undefined;
  readonly byCharge: PaymentRow | undefined;
  readonly forced: PaymentRow | undefined;
}

async function findCandidates(tx: Tx, event: SettlementEvent, forcedId: number | undefined): Promise<Candidates> {
  const { reference, chargeId, provider } = event;
  return {
    byReference: reference === undefined ? undefined : await findPaymentByReference(tx, reference),
    byCharge: chargeId === undefined ? undefined : await findPaymentByCharge(tx, provider, chargeId),
    forced: forcedId === undefined ? undefined : await findPayment(tx, forcedId),
  };
}

function mapValues(found: Candidates, map: (row: PaymentRow) => SettlementPayment) {
  const mapped = (row: PaymentRow | undefined) => (row === undefined ? undefined : map(row));
  return { byReference: mapped(found.byReference), byCharge: mapped(found.byCharge), forced: mapped(found.forced) };
}

export function settlementPayment(row: PaymentRow): SettlementPayment {
  return { ...row, terms: JSON.parse(row.tariff_snapshot) as TariffTerms };
}

async function knownRefunds(tx: Tx, payment: PaymentRow, event: SettlementEvent) {
  const own = await listRefunds(tx, payment.id);
  if (event.refundId === undefined) return own;
  const elsewhere = await findRefundByProviderId(tx, event.provider, event.refundId);
  return elsewhere === undefined || elsewhere.payment_id === payment.id ? own : [...own, elsewhere];
}

/** What really came for a payment in review: the amount in the event that put it there. */
async function receivedMoney(tx: Tx, payment: PaymentRow) {
  if (payment.provider_payment_id === null) return undefined;
  const event = await findEventForCharge(tx, payment.provider, payment.provider_payment_id);
  if (event?.amount_minor == null || event.currency === null) return undefined;
  return { amount_minor: event.amount_minor, currency: event.currency };
}

interface Decided {
  readonly actions: readonly SettlementAction[];
  readonly provider: string;
  readonly userId: number;
}

/** Writes a decision, in the order it was given. The caller holds the user's lock. */
export async function applyActions(deps: SettleDeps, tx: Tx, decided: Decided): Promise<void> {
  if (decided.actions.length === 0) return;
  const step: Step = { ...decided, now: deps.clock.now(), random: deps.random, childId: null };
  for (const action of decided.actions) await applyAction(tx, step, action);
  tx.onCommit(() => {
    deps.reconciler.wake();
    // A refund that came before its payment waits in the inbox.
    deps.parkedEvents.wake();
  });
}

interface Step extends Decided {
  readonly now: Instant;
  readonly random: Random;
  /** The payment that this decision added, which its period belongs to. */
  childId: number | null;
}

type ActionOf<Kind extends SettlementAction['kind']> = Extract<SettlementAction, { kind: Kind }>;

function applyAction(tx: Tx, step: Step, action: SettlementAction): Promise<unknown> {
  switch (action.kind) {
    case 'complete_payment':
      return completePayment(tx, step, action);
    case 'review_payment':
      return reviewPayment(tx, step, action);
    case 'fail_payment':
      return updatePayment(tx, action.payment_id, { status: 'failed', updated_at: step.now });
    case 'bind_charge':
      return updatePayment(tx, action.payment_id, { provider_payment_id: action.charge_id, updated_at: step.now });
    case 'add_child':
      return addChild(tx, step, action);
    case 'grant_period': {
      const payment_id = action.payment_id ?? step.childId;
      return insertPeriod(tx, { ...action.period, payment_id, user_id: step.userId, created_at: step.now });
    }
    case 'record_refund':
      return recordRefund(tx, step, action);
    case 'mark_refunded':
      return markRefunded(tx, step, action);
    case 'cut_period':
      return cutOwnPeriod(tx, step, action);
  }
}

function completePayment(tx: Tx, { now }: Step, action: ActionOf<'complete_payment'>): Promise<unknown> {
  const charge = action.charge_id === null ? {} : { provider_payment_id: action.charge_id };
  const row = { status: 'completed', completed_at: now, review_reason: null, updated_at: now, ...charge } as const;
  return updatePayment(tx, action.payment_id, row);
}

function reviewPayment(tx: Tx, { now }: Step, action: ActionOf<'review_payment'>): Promise<unknown> {
  const { charge_id, reason } = action;
  const row = { status: 'needs_review', provider_payment_id: charge_id, review_reason: reason, updated_at: now } as const;
  return updatePayment(tx, action.payment_id, row);
}

async function addChild(tx: Tx, step: Step, action: ActionOf<'add_child'>): Promise<void> {
  const parent = await findPayment(tx, action.parent_id);
  if (parent === undefined) throw new Error(`payment ${action.parent_id} has vanished`);
  const child = await insertPayment(tx, {
    reference: newReference(step.random),
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
    created_at: step.now,
    updated_at: step.now,
    completed_at: action.status === 'completed' ? step.now : null,
  });
  step.childId = child.id;
}

function recordRefund(tx: Tx, { provider, now }: Step, action: ActionOf<'record_refund'>): Promise<unknown> {
  const { payment_id, refund_id, provider_refund_id, amount_minor } = action;
  if (refund_id !== null) return updateRefund(tx, refund_id, { status: 'succeeded', provider_refund_id });
  const row = { payment_id, provider, provider_refund_id, amount_minor, created_at: now };
  return insertRefund(tx, { ...row, source: 'webhook', status: 'succeeded' });
}

function markRefunded(tx: Tx, { now }: Step, action: ActionOf<'mark_refunded'>): Promise<unknown> {
  const { status, refunded_minor, review_reason } = action;
  const remark = review_reason === null ? {} : { review_reason };
  return updatePayment(tx, action.payment_id, { status, refunded_minor, updated_at: now, ...remark });
}

async function cutOwnPeriod(tx: Tx, { userId }: Step, action: ActionOf<'cut_period'>): Promise<void> {
  const { period_id, cut_seconds, revoked_at } = action;
  await cutPeriod(tx, await loadChain(tx, userId), period_id, { cut_seconds, revoked_at });
}

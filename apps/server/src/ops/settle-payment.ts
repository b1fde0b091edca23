import {
  findRefundByProviderId,
  findSettledCharge,
  isUniqueViolation,
  listDisputeEvents,
  listNamedPayments,
  listPeriodsForUser,
  listRefunds,
  lockUser,
  type PaymentRow,
  type Queryable,
  type Store,
  type Tx,
  type UserRow,
} from '@vpn-api/db';
import { decideSettlement } from '../domain/decide-settlement.ts';
import {
  type DisputeFacts,
  goesBack,
  type Money,
  type RefundFacts,
  type SettlementDecision,
  type SettlementEvent,
  type SettlementPayment,
  type SettlementSnapshot,
} from '../domain/settlement.ts';
import type { TariffTerms } from '../domain/subscription.ts';
import { applyActions, type SettleDeps } from './apply-settlement.ts';

/**
 * A transaction that settles. Two payments of different users can claim one charge or refund in the same moment, each
 * under its own user's lock; the loser runs again and then sees whose it is.
 */
export async function settling<T>(store: Store, work: (tx: Tx) => Promise<T>): Promise<T> {
  try {
    return await store.transaction(work);
  } catch (error) {
    if (!isClaimedElsewhere(error)) throw error;
    return store.transaction(work);
  }
}

function isClaimedElsewhere(error: unknown): boolean {
  const rule = isUniqueViolation(error);
  return rule === 'payments(provider, provider_payment_id)' || rule === 'refunds(provider, provider_refund_id)';
}

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
  const userId = primary(await findCandidates(tx, event, forcedPaymentId))?.user_id;
  if (userId === undefined) return { outcome: 'parked', reason: 'payment_unknown', payment_id: null, actions: [] };
  const user = await lockUser(tx, userId);
  // Read again under the lock: what another delivery did meanwhile is what this one must see.
  const candidates = await findCandidates(tx, event, forcedPaymentId);
  const snapshot = await loadSnapshot(tx, event, { candidates, userId, removedAt: user?.removed_at ?? null });
  const decision = decideSettlement(snapshot, event, deps.clock.now());
  await applyActions(deps, tx, { actions: decision.actions, provider: event.provider, userId });
  return decision;
}

interface Candidates {
  readonly byReference: PaymentRow | undefined;
  readonly byCharge: PaymentRow | undefined;
  readonly forced: PaymentRow | undefined;
}

async function findCandidates(tx: Tx, event: SettlementEvent, forcedId: number | undefined): Promise<Candidates> {
  const { reference, chargeId, provider } = event;
  const named = await listNamedPayments(tx, { id: forcedId, reference, provider, chargeId });
  return {
    byReference: named.find((payment) => payment.reference === reference),
    byCharge: named.find((payment) => payment.provider === provider && payment.provider_payment_id === chargeId),
    forced: named.find(({ id }) => id === forcedId),
  };
}

/** The same order of trust as the domain's. Where they name different users, the domain holds the event. */
function primary({ byCharge, forced, byReference }: Candidates): PaymentRow | undefined {
  return byCharge ?? forced ?? byReference;
}

interface Locked {
  readonly candidates: Candidates;
  readonly userId: number;
  readonly removedAt: string | null;
}

async function loadSnapshot(tx: Tx, event: SettlementEvent, locked: Locked): Promise<SettlementSnapshot> {
  const { byReference, byCharge, forced } = locked.candidates;
  const payment = primary(locked.candidates);
  return {
    byReference: byReference && settlementPayment(byReference),
    byCharge: byCharge && settlementPayment(byCharge),
    forced: forced && settlementPayment(forced),
    user: { removed_at: locked.removedAt },
    periods: await listPeriodsForUser(tx, locked.userId),
    ...(payment !== undefined && goesBack(event) ? await loadReturns(tx, payment, event) : { refunds: [] }),
  };
}

async function loadReturns(tx: Tx, payment: PaymentRow, event: SettlementEvent) {
  return {
    refunds: await knownRefunds(tx, payment, event),
    disputes: await knownDisputes(tx, payment),
    received: await receivedMoney(tx, payment),
  };
}

/** A snapshot around one payment, for what an admin does to it. The caller holds the user's lock. */
export async function snapshotAround(
  tx: Tx,
  payment: PaymentRow,
  user: Pick<UserRow, 'removed_at'> | undefined,
): Promise<SettlementSnapshot & { readonly payment: SettlementPayment }> {
  return {
    payment: settlementPayment(payment),
    user: { removed_at: user?.removed_at ?? null },
    periods: await listPeriodsForUser(tx, payment.user_id),
    refunds: await listRefunds(tx, payment.id),
    disputes: await knownDisputes(tx, payment),
    received: await receivedMoney(tx, payment),
  };
}

export function settlementPayment(row: PaymentRow): SettlementPayment {
  return { ...row, terms: JSON.parse(row.tariff_snapshot) as TariffTerms };
}

async function knownRefunds(tx: Tx, payment: PaymentRow, event: SettlementEvent): Promise<readonly RefundFacts[]> {
  const own = await listRefunds(tx, payment.id);
  if (event.refundId === undefined) return own;
  const elsewhere = await findRefundByProviderId(tx, event.provider, event.refundId);
  return elsewhere === undefined || elsewhere.payment_id === payment.id ? own : [...own, elsewhere];
}

const DISPUTE_STATES = { disputed: 'open', dispute_won: 'won', dispute_lost: 'lost' } as const;

/** One for each dispute: a decision outlasts the news of it, whichever came first. */
async function knownDisputes(tx: Tx, payment: PaymentRow): Promise<readonly DisputeFacts[]> {
  const disputes = new Map<string | null, DisputeFacts>();
  for (const { action, dispute_id } of await listDisputeEvents(tx, payment.id)) {
    if (action === 'disputed' && disputes.has(dispute_id)) continue;
    disputes.set(dispute_id, { dispute_id, state: DISPUTE_STATES[action] });
  }
  return [...disputes.values()];
}

/** What the payment's charge brought, which an accepted payment may have been asked otherwise. */
export async function receivedMoney(q: Queryable, payment: PaymentRow): Promise<Money | undefined> {
  if (payment.provider_payment_id === null) return undefined;
  const event = await findSettledCharge(q, payment.provider, payment.provider_payment_id);
  if (event?.amount_minor == null || event.currency === null) return undefined;
  return { amount_minor: event.amount_minor, currency: event.currency };
}

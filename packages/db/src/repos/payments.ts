import { type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import type { Payments } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { countOf, given, onPage, type Page } from './page.ts';

export type PaymentRow = Selectable<Payments>;
export type NewPayment = Omit<Insertable<Payments>, 'id'>;
export type PaymentPatch = Omit<Updateable<Payments>, 'id' | 'reference' | 'user_id' | 'created_at'>;

export interface PaymentFilter {
  readonly userId?: number | undefined;
  readonly tariffId?: number | undefined;
  readonly status?: PaymentRow['status'] | undefined;
  readonly provider?: string | undefined;
  /** Created at this instant or later. */
  readonly since?: string | undefined;
}

/** A charge that another payment has is a unique violation of `payments(provider, provider_payment_id)`. */
export function insertPayment(q: Queryable, payment: NewPayment): Promise<PaymentRow> {
  return q.kysely.insertInto('payments').values(payment).returningAll().executeTakeFirstOrThrow();
}

export function findPayment(q: Queryable, id: number): Promise<PaymentRow | undefined> {
  return q.kysely.selectFrom('payments').selectAll().where('id', '=', id).executeTakeFirst();
}

/** After the user's lock, never before it. */
export function lockPayment(tx: Tx, id: number): Promise<PaymentRow | undefined> {
  return tx.kysely
    .selectFrom('payments')
    .selectAll()
    .where('id', '=', id)
    .modifyEnd(tx.dialect.forUpdate)
    .executeTakeFirst();
}

export function findPaymentByReference(q: Queryable, reference: string): Promise<PaymentRow | undefined> {
  return q.kysely.selectFrom('payments').selectAll().where('reference', '=', reference).executeTakeFirst();
}

export function findPaymentByCharge(q: Queryable, provider: string, chargeId: string): Promise<PaymentRow | undefined> {
  return q.kysely
    .selectFrom('payments')
    .selectAll()
    .where('provider', '=', provider)
    .where('provider_payment_id', '=', chargeId)
    .executeTakeFirst();
}

export interface PaymentNames {
  readonly id?: number | undefined;
  readonly reference?: string | undefined;
  readonly provider: string;
  /** Of this provider. */
  readonly chargeId?: string | undefined;
}

/** Every payment that one of the names means, so at most three. */
export async function listNamedPayments(q: Queryable, names: PaymentNames): Promise<PaymentRow[]> {
  const { id, reference, provider, chargeId } = names;
  if (id === undefined && reference === undefined && chargeId === undefined) return [];
  return q.kysely
    .selectFrom('payments')
    .selectAll()
    .where((eb) =>
      eb.or([
        ...(reference === undefined ? [] : [eb('reference', '=', reference)]),
        ...(chargeId === undefined ? [] : [eb.and({ provider, provider_payment_id: chargeId })]),
        ...(id === undefined ? [] : [eb('id', '=', id)]),
      ]),
    )
    .execute();
}

export interface Quoted {
  readonly userId: number;
  readonly tariffId: number;
  readonly provider: string;
  readonly currency: string;
  /** Only a payment of this amount; without it any. */
  readonly amountMinor?: number | undefined;
  readonly apply?: PaymentRow['apply'] | undefined;
}

/** The newest payment of the same thing that still waits for its money: what a repeated call means. */
export function findOpenPayment(q: Queryable, quoted: Quoted): Promise<PaymentRow | undefined> {
  const { userId, tariffId, provider, currency, amountMinor, apply } = quoted;
  const same = given({ user_id: userId, tariff_id: tariffId, provider, currency, amount_minor: amountMinor, apply });
  return q.kysely
    .selectFrom('payments')
    .selectAll()
    .where((eb) => eb.and(same))
    .where('status', '=', 'pending')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
}

/** The newest payment of a user, in whatever state or in the named one, for what a bot shows. */
export function findLatestPayment(
  q: Queryable,
  userId: number,
  status?: PaymentRow['status'],
): Promise<PaymentRow | undefined> {
  const newest = matching(q, { userId, status }).selectAll().orderBy('id', 'desc').limit(1);
  return newest.executeTakeFirst();
}

/** Payments made of further charges on this one. */
export function listChildPayments(q: Queryable, parentId: number): Promise<PaymentRow[]> {
  return q.kysely.selectFrom('payments').selectAll().where('parent_id', '=', parentId).orderBy('id').execute();
}

export function listPayments(q: Queryable, filter: PaymentFilter = {}, page: Page = {}): Promise<PaymentRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countPayments(q: Queryable, filter: PaymentFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

/** The caller holds the locks of the user and the payment, and has checked that the state may move there. */
export function updatePayment(tx: Tx, id: number, patch: PaymentPatch): Promise<PaymentRow> {
  return tx.kysely.updateTable('payments').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

export interface StoredCheckout {
  /** JSON, as the provider answered. */
  readonly checkout: string;
  readonly chargeId: string | null;
  readonly now: string;
}

/**
 * Keeps the first checkout that a provider answered; undefined when there is one already, or nothing to pay any more. A
 * charge that another payment has is a unique violation of `payments(provider, provider_payment_id)`.
 */
export function storeCheckout(
  q: Queryable,
  id: number,
  { checkout, chargeId, now }: StoredCheckout,
): Promise<PaymentRow | undefined> {
  return q.kysely
    .updateTable('payments')
    .set((eb) => ({
      checkout,
      provider_payment_id: eb.fn.coalesce('provider_payment_id', sql<string | null>`cast(${chargeId} as text)`),
      updated_at: now,
    }))
    .where('id', '=', id)
    .where('status', '=', 'pending')
    .where('checkout', 'is', null)
    .returningAll()
    .executeTakeFirst();
}

/** Notes who paid a charge, unless that is known. */
export async function recordPayer(
  q: Queryable,
  { provider, chargeId, payerId }: { provider: string; chargeId: string; payerId: string },
): Promise<void> {
  await q.kysely
    .updateTable('payments')
    .set({ payer_id: payerId })
    .where('provider', '=', provider)
    .where('provider_payment_id', '=', chargeId)
    .where('payer_id', 'is', null)
    .execute();
}

export interface Claim {
  readonly now: string;
  /** Nobody else takes the row before: the claim is lost by then, should its worker have died. */
  readonly leaseUntil: string;
  readonly limit: number;
}

/** Takes payments whose provider is to be asked by now, those that wait longest first, and keeps others off them. */
export function claimDuePolls(q: Queryable, { now, leaseUntil, limit }: Claim): Promise<PaymentRow[]> {
  const due = q.kysely
    .selectFrom('payments')
    .select('id')
    .where('poll_at', '<=', now)
    .orderBy('poll_at')
    .limit(limit)
    .modifyEnd(q.dialect.forUpdateSkipLocked);
  return q.kysely.updateTable('payments').set({ poll_at: leaseUntil }).where('id', 'in', due).returningAll().execute();
}

export interface PollPlan {
  /** What the claim wrote. A poll that somebody asked for meanwhile is due earlier, and is not forgotten. */
  readonly leaseUntil: string;
  /** Null: there is nothing to ask any more. */
  readonly pollAt: string | null;
  readonly attempts: number;
}

/** Ends a claim. */
export async function planPoll(q: Queryable, id: number, { leaseUntil, pollAt, attempts }: PollPlan): Promise<void> {
  await q.kysely
    .updateTable('payments')
    .set({ poll_at: pollAt, poll_attempts: attempts })
    .where('id', '=', id)
    .where('poll_at', '>=', leaseUntil)
    .execute();
}

/** The provider is asked at `at`, whatever was planned. */
export async function requestPoll(q: Queryable, id: number, at: string): Promise<void> {
  await q.kysely.updateTable('payments').set({ poll_at: at }).where('id', '=', id).execute();
}

/** The provider is asked at `at` instead of later; answers whether that is news. What is never asked stays so. */
export async function hastenPoll(q: Queryable, id: number, at: string): Promise<boolean> {
  const { numUpdatedRows } = await q.kysely
    .updateTable('payments')
    .set({ poll_at: at })
    .where('id', '=', id)
    .where('poll_at', '>', at)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/**
 * The provider is asked at `at` instead of earlier: what was to be learnt is known. Unless a hint waits to be read back,
 * which may be about something else.
 */
export async function postponePoll(q: Queryable, id: number, at: string): Promise<void> {
  await q.kysely
    .updateTable('payments')
    .set({ poll_at: at, poll_attempts: 0 })
    .where('id', '=', id)
    .where('poll_at', '<', at)
    .where(({ exists, not, selectFrom }) => {
      const hints = selectFrom('payment_events').select('payment_events.id').where('outcome', '=', 'parked');
      return not(exists(hints.where('is_hint', '=', 1).whereRef('payment_id', '=', 'payments.id')));
    })
    .execute();
}

/** When the next payment is due to be asked about. */
export async function findNextPollAt(q: Queryable): Promise<string | undefined> {
  const next = q.kysely.selectFrom('payments').select('poll_at').where('poll_at', 'is not', null);
  return (await next.orderBy('poll_at').limit(1).executeTakeFirst())?.poll_at ?? undefined;
}

function matching(q: Queryable, { userId, tariffId, status, provider, since }: PaymentFilter) {
  const same = given({ user_id: userId, tariff_id: tariffId, status, provider });
  const query = q.kysely.selectFrom('payments').where((eb) => eb.and(same));
  return since === undefined ? query : query.where('created_at', '>=', since);
}

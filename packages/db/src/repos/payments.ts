import type { Insertable, Selectable, Updateable } from 'kysely';
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

export interface Quoted {
  readonly userId: number;
  readonly tariffId: number;
  readonly provider: string;
  readonly currency: string;
  /** Only a payment of this amount; without it any. */
  readonly amountMinor?: number | undefined;
}

/** The newest payment of the same thing that still waits for its money: what a repeated call means. */
export function findOpenPayment(q: Queryable, quoted: Quoted): Promise<PaymentRow | undefined> {
  const { userId, tariffId, provider, currency, amountMinor } = quoted;
  const same = given({ user_id: userId, tariff_id: tariffId, provider, currency, amount_minor: amountMinor });
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

function matching(q: Queryable, { userId, tariffId, status, provider, since }: PaymentFilter) {
  const same = given({ user_id: userId, tariff_id: tariffId, status, provider });
  const query = q.kysely.selectFrom('payments').where((eb) => eb.and(same));
  return since === undefined ? query : query.where('created_at', '>=', since);
}

import type { Insertable, Selectable, Updateable } from 'kysely';
import type { Refunds } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import type { Claim } from './payments.ts';

export type RefundRow = Selectable<Refunds>;
export type NewRefund = Omit<Insertable<Refunds>, 'id'>;
export type RefundPatch = Omit<Updateable<Refunds>, 'id' | 'payment_id' | 'provider' | 'amount_minor' | 'created_at'>;

/** A refund that was recorded before is a unique violation of `refunds(provider, provider_refund_id)`. */
export function insertRefund(q: Queryable, refund: NewRefund): Promise<RefundRow> {
  return q.kysely.insertInto('refunds').values(refund).returningAll().executeTakeFirstOrThrow();
}

export function findRefund(q: Queryable, id: number): Promise<RefundRow | undefined> {
  return q.kysely.selectFrom('refunds').selectAll().where('id', '=', id).executeTakeFirst();
}

export function findRefundByProviderId(
  q: Queryable,
  provider: string,
  providerRefundId: string,
): Promise<RefundRow | undefined> {
  return q.kysely
    .selectFrom('refunds')
    .selectAll()
    .where('provider', '=', provider)
    .where('provider_refund_id', '=', providerRefundId)
    .executeTakeFirst();
}

export function listRefunds(q: Queryable, paymentId: number): Promise<RefundRow[]> {
  return q.kysely.selectFrom('refunds').selectAll().where('payment_id', '=', paymentId).orderBy('id').execute();
}

/** Takes refunds whose outcome is unknown and that are due to be asked for again, and keeps others off them. */
export function claimDueRefunds(q: Queryable, { now, leaseUntil, limit }: Claim): Promise<RefundRow[]> {
  const due = q.kysely
    .selectFrom('refunds')
    .select('id')
    .where('next_attempt_at', '<=', now)
    .orderBy('next_attempt_at')
    .limit(limit)
    .modifyEnd(q.dialect.forUpdateSkipLocked);
  return q.kysely
    .updateTable('refunds')
    .set({ next_attempt_at: leaseUntil })
    .where('id', 'in', due)
    .returningAll()
    .execute();
}

/** When the next refund is due to be asked for again. */
export async function findNextRefundAttemptAt(q: Queryable): Promise<string | undefined> {
  const next = q.kysely.selectFrom('refunds').select('next_attempt_at').where('next_attempt_at', 'is not', null);
  return (await next.orderBy('next_attempt_at').limit(1).executeTakeFirst())?.next_attempt_at ?? undefined;
}

export function updateRefund(tx: Tx, id: number, patch: RefundPatch): Promise<RefundRow> {
  return tx.kysely.updateTable('refunds').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

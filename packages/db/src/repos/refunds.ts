import type { Insertable, Selectable, Updateable } from 'kysely';
import { sumOf } from '../dialect.ts';
import type { Refunds } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';

export type RefundRow = Selectable<Refunds>;
export type NewRefund = Omit<Insertable<Refunds>, 'id'>;
export type RefundPatch = Pick<Updateable<Refunds>, 'provider_refund_id' | 'status' | 'reason'>;

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

/** Minor units that went back or are on their way: what a further refund must not exceed together with. */
export async function sumOpenRefunds(q: Queryable, paymentId: number): Promise<number> {
  const row = await q.kysely
    .selectFrom('refunds')
    .select((eb) => sumOf(eb.ref('amount_minor')).as('total'))
    .where('payment_id', '=', paymentId)
    .where('status', '!=', 'failed')
    .executeTakeFirstOrThrow();
  return row.total;
}

export function updateRefund(tx: Tx, id: number, patch: RefundPatch): Promise<RefundRow> {
  return tx.kysely.updateTable('refunds').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

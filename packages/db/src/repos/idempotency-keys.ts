import type { Insertable, Selectable } from 'kysely';
import type { IdempotencyKeys } from '../schema.generated.ts';
import type { Queryable } from '../store.ts';
import { CHUNK_ROWS } from './page.ts';

export type IdempotencyKeyRow = Selectable<IdempotencyKeys>;
export type NewIdempotencyKey = Omit<Insertable<IdempotencyKeys>, 'id' | 'answer'>;
export type IdempotencyKeyName = Pick<IdempotencyKeyRow, 'actor' | 'procedure' | 'key'>;

/** The right to run a call. Undefined when the key was used before; an expired key counts as new. */
export function claimIdempotencyKey(q: Queryable, claim: NewIdempotencyKey): Promise<IdempotencyKeyRow | undefined> {
  return q.kysely
    .insertInto('idempotency_keys')
    .values(claim)
    .onConflict((conflict) =>
      conflict
        .columns(['actor', 'procedure', 'key'])
        .doUpdateSet((eb) => ({
          request_hash: eb.ref('excluded.request_hash'),
          lease_until: eb.ref('excluded.lease_until'),
          answer: null,
          created_at: eb.ref('excluded.created_at'),
          expires_at: eb.ref('excluded.expires_at'),
        }))
        .whereRef('idempotency_keys.expires_at', '<=', 'excluded.created_at'),
    )
    .returningAll()
    .executeTakeFirst();
}

export function findIdempotencyKey(q: Queryable, name: IdempotencyKeyName): Promise<IdempotencyKeyRow | undefined> {
  return q.kysely
    .selectFrom('idempotency_keys')
    .selectAll()
    .where('actor', '=', name.actor)
    .where('procedure', '=', name.procedure)
    .where('key', '=', name.key)
    .executeTakeFirst();
}

/** A call's right to run. It is lost to whoever takes over once the lease has run out, and that one's lease is another. */
export type IdempotencyClaim = Pick<IdempotencyKeyRow, 'id' | 'lease_until'>;

/**
 * Stores the answer, in the transaction of the effect that it reports. False when another call took over meanwhile: the
 * effect must then not happen.
 */
export async function completeIdempotencyKey(
  q: Queryable,
  claim: IdempotencyClaim,
  sealedAnswer: string,
): Promise<boolean> {
  const { numUpdatedRows } = await q.kysely
    .updateTable('idempotency_keys')
    .set({ answer: sealedAnswer })
    .where('id', '=', claim.id)
    .where('lease_until', '=', claim.lease_until)
    .where('answer', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** After a call that had no effect: its repeat may run. A stored answer stays, and so does the claim of another call. */
export async function releaseIdempotencyKey(q: Queryable, claim: IdempotencyClaim): Promise<void> {
  await q.kysely
    .deleteFrom('idempotency_keys')
    .where('id', '=', claim.id)
    .where('lease_until', '=', claim.lease_until)
    .where('answer', 'is', null)
    .execute();
}

/** Takes over from a call that died: its lease has run out and it left no answer. Of two repeats at once, one wins. */
export async function takeOverIdempotencyKey(
  q: Queryable,
  id: number,
  { now, leaseUntil }: { readonly now: string; readonly leaseUntil: string },
): Promise<boolean> {
  const row = await q.kysely
    .updateTable('idempotency_keys')
    .set({ lease_until: leaseUntil })
    .where('id', '=', id)
    .where('answer', 'is', null)
    .where('lease_until', '<=', now)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** Deletes expired keys, some hundred a call. Answers how many. */
export async function purgeIdempotencyKeys(q: Queryable, now: string): Promise<number> {
  const expired = q.kysely.selectFrom('idempotency_keys').select('id').where('expires_at', '<=', now).limit(CHUNK_ROWS);
  const result = await q.kysely.deleteFrom('idempotency_keys').where('id', 'in', expired).executeTakeFirst();
  return Number(result.numDeletedRows);
}

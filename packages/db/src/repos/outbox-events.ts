import type { Insertable, Selectable } from 'kysely';
import type { OutboxEvents } from '../schema.generated.ts';
import type { Tx } from '../store.ts';

export type OutboxEventRow = Selectable<OutboxEvents>;
export type NewOutboxEvent = Omit<Insertable<OutboxEvents>, 'id' | 'position'>;

/** In the transaction of what it tells. Answers false when an event with the same dedupe key is there already. */
export async function insertOutboxEvent(tx: Tx, event: NewOutboxEvent): Promise<boolean> {
  const inserted = await tx.kysely
    .insertInto('outbox_events')
    .values(event)
    .onConflict((conflict) => conflict.column('dedupe_key').doNothing())
    .returning('id')
    .executeTakeFirst();
  return inserted !== undefined;
}

import { insertOutboxEvent, type Tx } from '@vpn-api/db';
import type { EventData, EventType } from '../domain/events.ts';
import type { Services } from '../services.ts';

export interface OutgoingEvent<Type extends EventType = EventType> {
  readonly type: Type;
  readonly userId?: number | null | undefined;
  /** As receivers get it under `data`: snake_case, no secrets. */
  readonly data: EventData[Type];
  /** For what must be told at most once. */
  readonly dedupeKey?: string | undefined;
}

/** Tells the outside about a change in the transaction that makes it: neither is there without the other. */
export async function emitEvent<Type extends EventType>(
  { clock, outbox }: Pick<Services, 'clock' | 'outbox'>,
  tx: Tx,
  { type, userId, data, dedupeKey }: OutgoingEvent<Type>,
): Promise<void> {
  const isNew = await insertOutboxEvent(tx, {
    type,
    user_id: userId ?? null,
    dedupe_key: dedupeKey ?? null,
    payload: JSON.stringify(data),
    created_at: clock.now(),
  });
  if (isNew) tx.onCommit(() => outbox.wake());
}

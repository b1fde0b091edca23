import { type Insertable, type Selectable, sql } from 'kysely';
import type { OutboxEvents } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { bulkValues, chunks, DEFAULT_LIMIT, given } from './page.ts';
import { setSettingOnce } from './settings.ts';

export type OutboxEventRow = Selectable<OutboxEvents>;
export type NewOutboxEvent = Omit<Insertable<OutboxEvents>, 'id' | 'position'>;
/** An event that has its place in the public order. */
export type PublishedEvent = OutboxEventRow & { readonly position: number };

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

/** Many at once, none of which has a dedupe key. */
export async function insertOutboxEvents(tx: Tx, events: readonly Omit<NewOutboxEvent, 'dedupe_key'>[]): Promise<void> {
  for (const some of chunks(events)) await tx.kysely.insertInto('outbox_events').values(some).execute();
}

const PUBLISHER = 'outbox_publisher';

/**
 * Gives committed events their place in the public order, oldest first, and answers how many. Transactions end in another
 * order than their ids were drawn in, so a reader that pages by id would pass over the late ones; places are given by one
 * publisher at a time, to what can be seen by then, and never before one that was given already.
 */
export async function publishOutboxEvents(tx: Tx, limit: number): Promise<number> {
  await lockPublisher(tx);
  const waiting = await tx.kysely
    .selectFrom('outbox_events')
    .select('id')
    .where('position', 'is', null)
    .orderBy('id')
    .limit(limit)
    .execute();
  if (waiting.length === 0) return 0;
  const last = await lastPosition(tx);
  const rows = waiting.map(({ id }, index) => ({ id, position: last + index + 1 }));
  const places = bulkValues(tx.dialect, { id: 'integer', position: 'integer' }, rows);
  await sql`
    with places (id, position) as ${places}
    update outbox_events set position = places.position from places where outbox_events.id = places.id
  `.execute(tx.kysely);
  return rows.length;
}

async function lockPublisher(tx: Tx): Promise<void> {
  await setSettingOnce(tx, PUBLISHER, '');
  await tx.kysely
    .selectFrom('settings')
    .select('key')
    .where('key', '=', PUBLISHER)
    .modifyEnd(tx.dialect.forUpdate)
    .execute();
}

/** 0 while nothing is published. */
export async function lastPosition(q: Queryable): Promise<number> {
  const row = await q.kysely
    .selectFrom('outbox_events')
    .select('position')
    .where('position', 'is not', null)
    .orderBy('position', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row?.position ?? 0;
}

export interface PublishedFilter {
  readonly type?: string | undefined;
  readonly types?: readonly string[] | undefined;
  readonly userId?: number | undefined;
}

export interface PositionPage {
  /** Only events behind this place. */
  readonly after?: number | undefined;
  readonly skip?: number | undefined;
  readonly limit?: number | undefined;
}

/** In the public order. */
export async function listPublishedEvents(
  q: Queryable,
  filter: PublishedFilter,
  { after = 0, skip = 0, limit = DEFAULT_LIMIT }: PositionPage = {},
): Promise<PublishedEvent[]> {
  const rows = await published(q, filter)
    .selectAll()
    .where('position', '>', after)
    .orderBy('position')
    .limit(limit)
    .offset(skip)
    .execute();
  return rows as PublishedEvent[];
}

export async function countPublishedEvents(q: Queryable, filter: PublishedFilter): Promise<number> {
  const row = await published(q, filter)
    .select((eb) => eb.fn.countAll<number>().as('total'))
    .executeTakeFirstOrThrow();
  return row.total;
}

function published(q: Queryable, { type, types, userId }: PublishedFilter) {
  const query = q.kysely
    .selectFrom('outbox_events')
    .where('position', 'is not', null)
    .where((eb) => eb.and(given({ type, user_id: userId })));
  return types === undefined ? query : query.where('type', 'in', types);
}

export interface OutboxAge {
  readonly before: string;
  /** For what is told at most once: the row is what knows that it was told. */
  readonly onceBefore: string;
}

/**
 * Deletes up to 500 events from before `before` that no delivery names and no endpoint has still to see. One that was
 * disabled before that has had its time.
 */
export async function purgeOutboxEvents(q: Queryable, { before, onceBefore }: OutboxAge): Promise<number> {
  const { numDeletedRows } = await q.kysely
    .deleteFrom('outbox_events')
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('outbox_events as event')
        .select('event.id')
        .where('event.created_at', '<', before)
        .where((eb) => eb.or([eb('event.dedupe_key', 'is', null), eb('event.created_at', '<', onceBefore)]))
        .where('event.position', 'is not', null)
        // A place that was given once is never given again: the last one stays to count on from.
        .where('event.position', '<', (last) =>
          last.selectFrom('outbox_events as newest').select((max) => max.fn.max('newest.position').as('position')),
        )
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom('webhook_deliveries').select('webhook_deliveries.id').whereRef('event_id', '=', 'event.id'),
            ),
          ),
        )
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom('webhook_endpoints')
                .select('webhook_endpoints.id')
                .where('removed_at', 'is', null)
                .where((eb) => eb.or([eb('disabled_at', 'is', null), eb('disabled_at', '>=', before)]))
                .whereRef('webhook_endpoints.position', '<', 'event.position'),
            ),
          ),
        )
        .limit(500),
    )
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** How many events wait for their place, for the metrics. */
export async function countUnpublishedEvents(q: Queryable): Promise<number> {
  const row = await q.kysely
    .selectFrom('outbox_events')
    .select((eb) => eb.fn.countAll<number>().as('total'))
    .where('position', 'is', null)
    .executeTakeFirstOrThrow();
  return row.total;
}

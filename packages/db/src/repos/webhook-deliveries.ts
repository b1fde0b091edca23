import type { Selectable, Updateable } from 'kysely';
import type { OutboxEvents, WebhookDeliveries } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { chunks, countOf, given, onPage, type Page } from './page.ts';

export type WebhookDeliveryRow = Selectable<WebhookDeliveries>;
export type WebhookDeliveryPatch = Omit<
  Updateable<WebhookDeliveries>,
  'id' | 'endpoint_id' | 'event_id' | 'created_at'
>;

export interface DeliveryFilter {
  readonly endpointId: number;
  readonly id?: number | undefined;
  readonly status?: WebhookDeliveryRow['status'] | undefined;
}

/** A delivery with the name and the type of its event. */
export interface LoggedDelivery extends WebhookDeliveryRow {
  /** The event's place in the public order, by which readers know it. */
  readonly position: number;
  readonly type: Selectable<OutboxEvents>['type'];
}

/** A delivery with the event it carries. */
export interface DueDelivery extends LoggedDelivery {
  readonly payload: string;
  readonly event_created_at: string;
}

interface NewDeliveries {
  readonly endpointId: number;
  readonly eventIds: readonly number[];
  readonly at: string;
}

/** In the order given, which is the order of sending. Those that are there already stay as they are. */
export async function insertWebhookDeliveries(tx: Tx, { endpointId, eventIds, at }: NewDeliveries): Promise<void> {
  for (const part of chunks(eventIds)) {
    await tx.kysely
      .insertInto('webhook_deliveries')
      .values(
        part.map((event_id) => ({ endpoint_id: endpointId, event_id, status: 'pending' as const, created_at: at })),
      )
      .onConflict((conflict) => conflict.columns(['endpoint_id', 'event_id']).doNothing())
      .execute();
  }
}

/** The one to send next to an endpoint: the oldest that is not decided, due or not. */
export async function findHeadDelivery(q: Queryable, endpointId: number): Promise<DueDelivery | undefined> {
  const row = await q.kysely
    .selectFrom('webhook_deliveries')
    .innerJoin('outbox_events', 'outbox_events.id', 'webhook_deliveries.event_id')
    .selectAll('webhook_deliveries')
    .select(['outbox_events.position', 'outbox_events.type', 'outbox_events.payload'])
    .select('outbox_events.created_at as event_created_at')
    .where('webhook_deliveries.endpoint_id', '=', endpointId)
    .where('webhook_deliveries.status', '=', 'pending')
    .orderBy('webhook_deliveries.id')
    .limit(1)
    .executeTakeFirst();
  return row as DueDelivery | undefined;
}

/** Writes what came of an attempt; false when somebody else has decided or counted another one meanwhile. */
export async function recordAttempt(
  q: Queryable,
  { id, attempts }: Pick<WebhookDeliveryRow, 'id' | 'attempts'>,
  patch: WebhookDeliveryPatch,
): Promise<boolean> {
  const { numUpdatedRows } = await q.kysely
    .updateTable('webhook_deliveries')
    .set({ ...patch, attempts: attempts + 1 })
    .where('id', '=', id)
    .where('status', '=', 'pending')
    .where('attempts', '=', attempts)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** Puts a decided delivery back to be sent again; undefined when the endpoint has no such delivery. */
export async function requeueWebhookDelivery(
  q: Queryable,
  { endpointId, deliveryId }: { readonly endpointId: number; readonly deliveryId: number },
): Promise<LoggedDelivery | undefined> {
  await q.kysely
    .updateTable('webhook_deliveries')
    .set({ status: 'pending', attempts: 0, next_attempt_at: null, delivered_at: null })
    .where('id', '=', deliveryId)
    .where('endpoint_id', '=', endpointId)
    .execute();
  const [requeued] = await listWebhookDeliveries(q, { endpointId, id: deliveryId });
  return requeued;
}

/** Makes what waits for an endpoint due now, as if it had never been tried; an attempt under way counts for nothing. */
export async function retryWebhookDeliveries(tx: Tx, endpointId: number): Promise<void> {
  await tx.kysely
    .updateTable('webhook_deliveries')
    .set({ attempts: 0, next_attempt_at: null })
    .where('endpoint_id', '=', endpointId)
    .where('status', '=', 'pending')
    .where('attempts', '>', 0)
    .execute();
}

export async function listWebhookDeliveries(
  q: Queryable,
  filter: DeliveryFilter,
  page: Page = {},
): Promise<LoggedDelivery[]> {
  const withEvent = matching(q, filter)
    .selectAll()
    .select((eb) => {
      const event = eb.selectFrom('outbox_events').whereRef('outbox_events.id', '=', 'webhook_deliveries.event_id');
      return [event.select('position').as('position'), event.select('type').as('type')];
    });
  return (await onPage(withEvent, page).execute()) as LoggedDelivery[];
}

export function countWebhookDeliveries(q: Queryable, filter: DeliveryFilter): Promise<number> {
  return countOf(matching(q, filter));
}

function matching(q: Queryable, { endpointId, id, status }: DeliveryFilter) {
  const same = given({ endpoint_id: endpointId, id, status });
  return q.kysely.selectFrom('webhook_deliveries').where((eb) => eb.and(same));
}

export interface DeliveryAge {
  readonly before: string;
  /** Dead ones wait for a person, and longer. */
  readonly deadBefore: string;
}

/**
 * Deletes up to 500 deliveries from before these moments: what was decided, and what waits for an endpoint that was
 * removed or has been disabled since before `before`.
 */
export async function purgeWebhookDeliveries(q: Queryable, { before, deadBefore }: DeliveryAge): Promise<number> {
  const { numDeletedRows } = await q.kysely
    .deleteFrom('webhook_deliveries')
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('webhook_deliveries as old')
        .innerJoin('webhook_endpoints as endpoint', 'endpoint.id', 'old.endpoint_id')
        .select('old.id')
        .where('old.created_at', '<', before)
        .where((eb) =>
          eb.or([
            eb('old.status', '=', 'delivered'),
            eb('old.created_at', '<', deadBefore).and('old.status', '=', 'dead'),
            eb('endpoint.removed_at', 'is not', null),
            eb('endpoint.disabled_at', '<', before).and('old.status', '=', 'pending'),
          ]),
        )
        .limit(500),
    )
    .executeTakeFirst();
  return Number(numDeletedRows);
}

export interface Backlog {
  readonly pending: number;
  /** When the oldest of them was made; null when there is none. */
  readonly oldest_since: string | null;
}

/** What has not been delivered, for the metrics. Endpoints that were removed or disabled count for nothing. */
export async function readDeliveryBacklog(q: Queryable): Promise<Backlog> {
  return q.kysely
    .selectFrom('webhook_deliveries')
    .innerJoin('webhook_endpoints', 'webhook_endpoints.id', 'webhook_deliveries.endpoint_id')
    .select((eb) => eb.fn.countAll<number>().as('pending'))
    .select((eb) => eb.fn.min<string | null>('webhook_deliveries.created_at').as('oldest_since'))
    .where('status', '=', 'pending')
    .where('removed_at', 'is', null)
    .where('disabled_at', 'is', null)
    .executeTakeFirstOrThrow();
}

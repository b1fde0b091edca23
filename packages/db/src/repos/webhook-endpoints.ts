import type { Insertable, Selectable, Updateable } from 'kysely';
import type { WebhookEndpoints } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { parseWords } from './json.ts';
import { countOf, onPage, type Page } from './page.ts';

type StoredEndpoint = Selectable<WebhookEndpoints>;
/** `types` null: every type. */
export type WebhookEndpointRow = Omit<StoredEndpoint, 'types'> & { readonly types: readonly string[] | null };
export type NewWebhookEndpoint = Omit<Insertable<WebhookEndpoints>, 'id' | 'types'> & {
  readonly types: readonly string[] | null;
};
export type WebhookEndpointPatch = Omit<
  Updateable<WebhookEndpoints>,
  'id' | 'created_at' | 'types' | 'lease_owner' | 'lease_until'
> & { readonly types?: readonly string[] | null };

export async function insertWebhookEndpoint(
  tx: Tx,
  { types, ...row }: NewWebhookEndpoint,
): Promise<WebhookEndpointRow> {
  const values = { ...row, types: types === null ? null : JSON.stringify(types) };
  return endpoint(
    await tx.kysely.insertInto('webhook_endpoints').values(values).returningAll().executeTakeFirstOrThrow(),
  );
}

/** Undefined also for one that was removed. */
export async function findWebhookEndpoint(q: Queryable, id: number): Promise<WebhookEndpointRow | undefined> {
  const row = await present(q).selectAll().where('id', '=', id).executeTakeFirst();
  return row && endpoint(row);
}

export async function listWebhookEndpoints(q: Queryable, page: Page = {}): Promise<WebhookEndpointRow[]> {
  return (await onPage(present(q).selectAll(), page).execute()).map(endpoint);
}

export function countWebhookEndpoints(q: Queryable): Promise<number> {
  return countOf(present(q));
}

export async function updateWebhookEndpoint(
  q: Queryable,
  id: number,
  { types, ...patch }: WebhookEndpointPatch,
): Promise<WebhookEndpointRow | undefined> {
  const changed = {
    ...patch,
    ...(types === undefined ? {} : { types: types === null ? null : JSON.stringify(types) }),
  };
  const row = await q.kysely
    .updateTable('webhook_endpoints')
    .set(changed)
    .where('id', '=', id)
    .where('removed_at', 'is', null)
    .returningAll()
    .executeTakeFirst();
  return row && endpoint(row);
}

export interface EndpointLease {
  readonly endpointId: number;
  /** Names one run of one process. */
  readonly owner: string;
  readonly now: string;
  readonly until: string;
}

/** Takes or keeps the right to deliver to an endpoint; false while another instance has it. */
export async function leaseWebhookEndpoint(
  q: Queryable,
  { endpointId, owner, now, until }: EndpointLease,
): Promise<boolean> {
  const row = await q.kysely
    .updateTable('webhook_endpoints')
    .set({ lease_owner: owner, lease_until: until })
    .where('id', '=', endpointId)
    .where('removed_at', 'is', null)
    .where((eb) => eb.or([eb('lease_owner', 'is', null), eb('lease_owner', '=', owner), eb('lease_until', '<=', now)]))
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

export async function releaseWebhookEndpoint(q: Queryable, endpointId: number, owner: string): Promise<void> {
  await q.kysely
    .updateTable('webhook_endpoints')
    .set({ lease_owner: null, lease_until: null })
    .where('id', '=', endpointId)
    .where('lease_owner', '=', owner)
    .execute();
}

/** For the start of the one process that an embedded database has: whoever held these is dead. */
export async function releaseAllWebhookEndpoints(q: Queryable): Promise<void> {
  await q.kysely.updateTable('webhook_endpoints').set({ lease_owner: null, lease_until: null }).execute();
}

function present(q: Queryable) {
  return q.kysely.selectFrom('webhook_endpoints').where('removed_at', 'is', null);
}

function endpoint(row: StoredEndpoint): WebhookEndpointRow {
  return { ...row, types: row.types === null ? null : parseWords(row.types) };
}

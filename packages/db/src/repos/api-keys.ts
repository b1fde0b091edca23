import type { Insertable, Selectable } from 'kysely';
import type { ApiKeys } from '../schema.generated.ts';
import type { Queryable } from '../store.ts';
import { parseWords } from './json.ts';
import { onPage, type Page } from './page.ts';

export type ApiKeyRow = Omit<Selectable<ApiKeys>, 'scopes'> & { readonly scopes: readonly string[] };
export type NewApiKey = Omit<Insertable<ApiKeys>, 'scopes'> & { readonly scopes: readonly string[] };

export async function insertApiKey(q: Queryable, { scopes, ...key }: NewApiKey): Promise<ApiKeyRow> {
  const values = { ...key, scopes: JSON.stringify(scopes) };
  return parse(await q.kysely.insertInto('api_keys').values(values).returningAll().executeTakeFirstOrThrow());
}

export async function findApiKeyByHash(q: Queryable, keyHash: string): Promise<ApiKeyRow | undefined> {
  const row = await q.kysely.selectFrom('api_keys').selectAll().where('key_hash', '=', keyHash).executeTakeFirst();
  return row && parse(row);
}

export async function findApiKey(q: Queryable, id: number): Promise<ApiKeyRow | undefined> {
  const row = await q.kysely.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst();
  return row && parse(row);
}

export async function listApiKeys(q: Queryable, page: Page = {}): Promise<ApiKeyRow[]> {
  const rows = await onPage(q.kysely.selectFrom('api_keys').selectAll(), page).execute();
  return rows.map(parse);
}

export async function countApiKeys(q: Queryable): Promise<number> {
  const counted = q.kysely.selectFrom('api_keys').select((eb) => eb.fn.countAll<number>().as('total'));
  return (await counted.executeTakeFirstOrThrow()).total;
}

/** False when there is no such key, or it was revoked before. */
export async function revokeApiKey(q: Queryable, id: number, at: string): Promise<boolean> {
  const row = await q.kysely
    .updateTable('api_keys')
    .set({ revoked_at: at })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

export async function touchApiKey(q: Queryable, id: number, at: string): Promise<void> {
  await q.kysely.updateTable('api_keys').set({ last_used_at: at }).where('id', '=', id).execute();
}

function parse(row: Selectable<ApiKeys>): ApiKeyRow {
  return { ...row, scopes: parseWords(row.scopes) };
}

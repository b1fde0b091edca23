import type { Queryable } from '../store.ts';

export async function getSetting(q: Queryable, key: string): Promise<string | undefined> {
  const row = await q.kysely.selectFrom('settings').select('value').where('key', '=', key).executeTakeFirst();
  return row?.value;
}

/** True for the one caller that set it: what happens once in the life of a database hangs on this row. */
export async function setSettingOnce(q: Queryable, key: string, value: string): Promise<boolean> {
  const row = await q.kysely
    .insertInto('settings')
    .values({ key, value })
    .onConflict((conflict) => conflict.column('key').doNothing())
    .returning('key')
    .executeTakeFirst();
  return row !== undefined;
}

export async function putSetting(q: Queryable, key: string, value: string): Promise<void> {
  await q.kysely
    .insertInto('settings')
    .values({ key, value })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
    .execute();
}

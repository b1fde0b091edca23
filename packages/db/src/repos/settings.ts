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

const INSTALL_ID = 'install_id';

/** Names this installation on hosts that it may share with another. Kept for ever once it is set; `candidate` is for that. */
export async function ensureInstallId(q: Queryable, candidate: string): Promise<string> {
  await setSettingOnce(q, INSTALL_ID, candidate);
  return await getInstallId(q);
}

/** @throws Error before the first {@link ensureInstallId} */
export async function getInstallId(q: Queryable): Promise<string> {
  const id = await getSetting(q, INSTALL_ID);
  if (id === undefined) throw new Error('The database has no install id yet: ensureInstallId belongs to the start');
  return id;
}

export async function putSetting(q: Queryable, key: string, value: string): Promise<void> {
  await q.kysely
    .insertInto('settings')
    .values({ key, value })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
    .execute();
}

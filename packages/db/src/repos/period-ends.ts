import type { Queryable } from '../store.ts';

/** A stretch of time: behind `after`, up to and with `upTo`. */
export interface TimeSpan {
  readonly after: string;
  readonly upTo: string;
}

/** Ids of users with a period whose end lies in the span: whoever has to be told about it is among them. */
export async function listUsersWithEnds(q: Queryable, { after, upTo }: TimeSpan): Promise<number[]> {
  const rows = await q.kysely
    .selectFrom('subscription_periods')
    .select('user_id')
    .distinct()
    .where('ends_at', '>', after)
    .where('ends_at', '<=', upTo)
    .orderBy('user_id')
    .execute();
  return rows.map((row) => row.user_id);
}

/** The first end of any period behind a moment; undefined when there is none. */
export async function findNextEnd(q: Queryable, after: string): Promise<string | undefined> {
  const row = await q.kysely
    .selectFrom('subscription_periods')
    .select('ends_at')
    .where('ends_at', '>', after)
    .orderBy('ends_at')
    .limit(1)
    .executeTakeFirst();
  return row?.ends_at ?? undefined;
}

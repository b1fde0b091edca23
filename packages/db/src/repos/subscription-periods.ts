import { type Insertable, type RawBuilder, type Selectable, sql } from 'kysely';
import { flagOf } from '../dialect.ts';
import type { SubscriptionPeriods } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { bulkValues, chunks, DEFAULT_LIMIT, type Page } from './page.ts';

export type SubscriptionPeriodRow = Selectable<SubscriptionPeriods>;
/** `grace_ends_at` follows from the other columns. */
export type NewSubscriptionPeriod = Omit<Insertable<SubscriptionPeriods>, 'id' | 'grace_ends_at'>;

export function findPeriod(q: Queryable, id: number): Promise<SubscriptionPeriodRow | undefined> {
  return q.kysely.selectFrom('subscription_periods').selectAll().where('id', '=', id).executeTakeFirst();
}

export function findPeriodByPayment(q: Queryable, paymentId: number): Promise<SubscriptionPeriodRow | undefined> {
  return q.kysely.selectFrom('subscription_periods').selectAll().where('payment_id', '=', paymentId).executeTakeFirst();
}

/** The whole chain, in order of `seq`. */
export function listPeriodsForUser(q: Queryable, userId: number): Promise<SubscriptionPeriodRow[]> {
  return listPeriodsForUsers(q, [userId]);
}

/** The chains of many users, each in order of `seq`. */
export async function listPeriodsForUsers(q: Queryable, userIds: readonly number[]): Promise<SubscriptionPeriodRow[]> {
  const rows: SubscriptionPeriodRow[] = [];
  for (const some of chunks(userIds)) {
    const query = q.kysely.selectFrom('subscription_periods').selectAll().where('user_id', 'in', some);
    rows.push(...(await query.orderBy('user_id').orderBy('seq').execute()));
  }
  return rows;
}

export type PeriodWithDispute = SubscriptionPeriodRow & {
  /** Set while the payment that bought the period, or what it is a rest of, is disputed. */
  readonly disputed_at: string | null;
};

/** The chains of many users, as far as they decide who may connect. */
export async function listPeriodsWithDisputes(q: Queryable, userIds: readonly number[]): Promise<PeriodWithDispute[]> {
  const rows: PeriodWithDispute[] = [];
  for (const some of chunks(userIds)) {
    rows.push(...(await executeWithDisputes(periodsWithDisputes(q).where('period.user_id', 'in', some))));
  }
  return rows;
}

/** Whole chains only, for `executeWithDisputes`. */
export function periodsWithDisputes(q: Queryable) {
  return q.kysely
    .selectFrom('subscription_periods as period')
    .leftJoin('payments', 'payments.id', 'period.payment_id')
    .selectAll('period')
    .select('payments.disputed_at')
    .orderBy('period.user_id')
    .orderBy('period.seq');
}

/** Rests have no payment of their own: what disputes the period they come from disputes them. */
export async function executeWithDisputes(query: ReturnType<typeof periodsWithDisputes>): Promise<PeriodWithDispute[]> {
  const rows = await query.execute();
  const disputes = new Map<number, string | null>();
  // A rest is always the later row.
  for (const { id, rest_of_id, disputed_at } of rows.toSorted((a, b) => a.id - b.id)) {
    disputes.set(id, rest_of_id === null ? disputed_at : (disputes.get(rest_of_id) ?? null));
  }
  return rows.map((row) => ({ ...row, disputed_at: disputes.get(row.id) ?? null }));
}

/** Whether the user ever had a period, from whatever source. */
export async function hasHadPeriod(q: Queryable, userId: number): Promise<boolean> {
  const period = q.kysely.selectFrom('subscription_periods').select('id').where('user_id', '=', userId);
  return (await period.limit(1).executeTakeFirst()) !== undefined;
}

/** The caller holds the user's lock; without it a second period with the same `seq` makes the Store run the work again. */
export function insertPeriod(tx: Tx, period: NewSubscriptionPeriod): Promise<SubscriptionPeriodRow> {
  const values = { ...period, grace_ends_at: graceEnd(period) };
  return tx.kysely.insertInto('subscription_periods').values(values).returningAll().executeTakeFirstOrThrow();
}

/** What may change about a period that was granted. */
export type PeriodFactsPatch = Pick<SubscriptionPeriodRow, 'cut_seconds' | 'revoked_at'>;

/** Changes the facts; `updateFold` must follow for whatever moves because of them. */
export async function updatePeriodFacts(tx: Tx, id: number, patch: PeriodFactsPatch): Promise<void> {
  await tx.kysely
    .updateTable('subscription_periods')
    .set(patch)
    // A revoked period leaves no grace, also when its end stays where it was.
    .$if(patch.revoked_at !== null, (query) => query.set((eb) => ({ grace_ends_at: eb.ref('ends_at') })))
    .where('id', '=', id)
    .execute();
}

/** Gives a period that has not begun a later place in its chain; `updateFold` must follow. */
export async function updatePeriodSeq(tx: Tx, id: number, seq: number): Promise<void> {
  await tx.kysely.updateTable('subscription_periods').set({ seq }).where('id', '=', id).execute();
}

/** How much of a period was moved behind another; `updateFold` must follow. */
export async function updateMovedSeconds(tx: Tx, id: number, movedSeconds: number): Promise<void> {
  const query = tx.kysely.updateTable('subscription_periods').set({ moved_seconds: movedSeconds });
  await query.where('id', '=', id).execute();
}

/** A period with its place in the chain as just computed. */
export interface FoldedRow {
  readonly id: number;
  readonly starts_at: string;
  readonly ends_at: string | null;
  readonly grace_days: number;
  readonly revoked_at: string | null;
}

/** Rewrites the derived columns of the given periods, and of no others. The caller holds the user's lock. */
export async function updateFold(tx: Tx, rows: readonly FoldedRow[]): Promise<void> {
  const columns = { id: 'integer', starts_at: 'instant', ends_at: 'instant', grace_ends_at: 'instant' } as const;
  for (const some of chunks(rows)) {
    const values = some.map((row) => ({ ...row, grace_ends_at: graceEnd(row) }));
    await sql`with folded (id, starts_at, ends_at, grace_ends_at) as ${bulkValues(tx.dialect, columns, values)}
      update subscription_periods
      set starts_at = folded.starts_at, ends_at = folded.ends_at, grace_ends_at = folded.grace_ends_at
      from folded where folded.id = subscription_periods.id`.execute(tx.kysely);
  }
}

const DAY_MS = 86_400_000;
/** The last moment that the text form of an instant can say. */
const LAST_INSTANT = '9999-12-31T23:59:59.999Z';

function graceEnd(period: Pick<NewSubscriptionPeriod, 'ends_at' | 'grace_days' | 'revoked_at'>): string | null {
  const { ends_at: endsAt = null, grace_days: graceDays = 0, revoked_at: revokedAt = null } = period;
  if (endsAt === null || revokedAt !== null) return endsAt;
  const end = Math.min(Date.parse(endsAt) + graceDays * DAY_MS, Date.parse(LAST_INSTANT));
  return new Date(end).toISOString();
}

export interface SubscriptionFilter {
  readonly now: string;
  readonly userId?: number | undefined;
  readonly status?: 'active' | 'grace' | 'expired' | 'revoked' | undefined;
  /** The whole chain, without grace, ends before this. */
  readonly endsBefore?: string | undefined;
}

/** Ids of users that have periods, a page in order of id: a subscription is one user's chain. `afterId` is a user's id. */
export async function listSubscribedUsers(
  q: Queryable,
  filter: SubscriptionFilter,
  page: Page = {},
): Promise<number[]> {
  const { rows } = await sql<{ user_id: number }>`${chains} select user_id from chains
    where ${chainMatches(filter)} and user_id > ${page.afterId ?? 0}
    order by user_id limit ${page.limit ?? DEFAULT_LIMIT} offset ${page.skip ?? 0}`.execute(q.kysely);
  return rows.map((row) => row.user_id);
}

export async function countSubscribedUsers(q: Queryable, filter: SubscriptionFilter): Promise<number> {
  const counted = sql<{ total: number }>`${chains} select count(*) as total from chains where ${chainMatches(filter)}`;
  return (await counted.execute(q.kysely)).rows[0]?.total ?? 0;
}

/**
 * One row per user: the last of the periods that cover any time, as the state of a chain is that of its end; where all
 * were taken back before they were used, the newest.
 */
const chains = sql`with chains as (
    select user_id, ends_at, grace_ends_at, revoked_at from (
      select user_id, ends_at, grace_ends_at, revoked_at, row_number() over (
        partition by user_id
        order by ${flagOf(sql`ends_at is null or ends_at > starts_at`)} desc, seq desc
      ) as place from subscription_periods
    ) as placed where place = 1
  )`;

function chainMatches({ now, userId, status, endsBefore }: SubscriptionFilter): RawBuilder<unknown> {
  const parts = [
    ...(userId === undefined ? [] : [sql`user_id = ${userId}`]),
    ...(status === undefined ? [] : [hasStatus(status, now)]),
    ...(endsBefore === undefined ? [] : [sql`ends_at < ${endsBefore}`]),
  ];
  return sql.join([sql`user_id > 0`, ...parts], sql` and `);
}

function hasStatus(status: NonNullable<SubscriptionFilter['status']>, now: string): RawBuilder<unknown> {
  switch (status) {
    case 'active':
      return sql`revoked_at is null and (ends_at is null or ends_at > ${now})`;
    case 'grace':
      return sql`revoked_at is null and ends_at <= ${now} and grace_ends_at > ${now}`;
    case 'expired':
      return sql`revoked_at is null and grace_ends_at <= ${now}`;
    case 'revoked':
      return sql`revoked_at is not null`;
  }
}

import { type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import { flagOf } from '../dialect.ts';
import type { Users } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { chunks, countOf, given, onPage, type Page } from './page.ts';

export type UserRow = Selectable<Users>;
export type NewUser = Insertable<Users>;
export type UserPatch = Omit<Updateable<Users>, 'id' | 'created_at'>;

export interface UserFilter {
  /** In canonical form. */
  readonly email?: string | undefined;
  readonly telegramId?: number | undefined;
  readonly status?: UserRow['status'] | undefined;
  readonly role?: UserRow['role'] | undefined;
  /** Default false: removed accounts are not listed. */
  readonly includeRemoved?: boolean | undefined;
}

/** A taken e-mail or Telegram id is a unique violation of `users(email)` or `users(telegram_id)`. */
export function insertUser(q: Queryable, user: NewUser): Promise<UserRow> {
  return q.kysely.insertInto('users').values(user).returningAll().executeTakeFirstOrThrow();
}

/** For get-or-create: undefined when the e-mail or the Telegram id is taken, and the transaction goes on. */
export function insertUserOnce(q: Queryable, user: NewUser): Promise<UserRow | undefined> {
  return q.kysely
    .insertInto('users')
    .values(user)
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
}

export function findUserById(q: Queryable, id: number): Promise<UserRow | undefined> {
  return q.kysely.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst();
}

export function findUserByEmail(q: Queryable, email: string): Promise<UserRow | undefined> {
  return q.kysely.selectFrom('users').selectAll().where('email', '=', email).executeTakeFirst();
}

export function findUserByTelegramId(q: Queryable, telegramId: number): Promise<UserRow | undefined> {
  return q.kysely.selectFrom('users').selectAll().where('telegram_id', '=', telegramId).executeTakeFirst();
}

export async function listUsersByIds(q: Queryable, ids: readonly number[]): Promise<UserRow[]> {
  const rows: UserRow[] = [];
  for (const some of chunks(ids)) {
    rows.push(...(await q.kysely.selectFrom('users').selectAll().where('id', 'in', some).execute()));
  }
  return rows;
}

/** The first statement of every transaction that touches a user's periods, peers or device count. */
export function lockUser(tx: Tx, id: number): Promise<UserRow | undefined> {
  return tx.kysely
    .selectFrom('users')
    .selectAll()
    .where('id', '=', id)
    .modifyEnd(tx.dialect.forUpdate)
    .executeTakeFirst();
}

/** Locks many users, in order of id: two that do so at once wait for each other instead of dead-locking. */
export async function lockUsers(tx: Tx, ids: readonly number[]): Promise<UserRow[]> {
  const rows: UserRow[] = [];
  for (const some of chunks(ids.toSorted((a, b) => a - b))) {
    const query = tx.kysely.selectFrom('users').selectAll().where('id', 'in', some).orderBy('id');
    rows.push(...(await query.modifyEnd(tx.dialect.forUpdate).execute()));
  }
  return rows;
}

/** Locks all admins, in order of id: two of them cannot demote each other at once. */
export function lockAdmins(tx: Tx): Promise<UserRow[]> {
  return tx.kysely
    .selectFrom('users')
    .selectAll()
    .where('role', '=', 'admin')
    .where('removed_at', 'is', null)
    .orderBy('id')
    .modifyEnd(tx.dialect.forUpdate)
    .execute();
}

export interface SessionUser {
  readonly user: UserRow;
  /** The session was revoked, or never was this user's. */
  readonly sessionRevoked: boolean;
}

/**
 * Who an access token stands for, in one select: it runs on every request. The subquery costs SQLite a seventh of the
 * same as a join.
 */
export async function findUserForSession(
  q: Queryable,
  userId: number,
  familyId: number,
): Promise<SessionUser | undefined> {
  const isLive = sql`exists (select 1 from sessions
    where sessions.id = ${familyId} and sessions.user_id = users.id and sessions.revoked_at is null)`;
  const row = await q.kysely
    .selectFrom('users')
    .selectAll()
    .select(flagOf(isLive).as('has_live_session'))
    .where('id', '=', userId)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const { has_live_session, ...user } = row;
  return { user, sessionRevoked: has_live_session === 0 };
}

export function listUsers(q: Queryable, filter: UserFilter = {}, page: Page = {}): Promise<UserRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countUsers(q: Queryable, filter: UserFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

export function updateUser(q: Queryable, id: number, patch: UserPatch): Promise<UserRow> {
  return q.kysely.updateTable('users').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

function matching(q: Queryable, { email, telegramId, status, role, includeRemoved }: UserFilter) {
  const query = q.kysely
    .selectFrom('users')
    .where((eb) => eb.and(given({ email, telegram_id: telegramId, status, role })));
  return includeRemoved === true ? query : query.where('removed_at', 'is', null);
}

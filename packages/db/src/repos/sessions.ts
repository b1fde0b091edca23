import type { Insertable, Selectable } from 'kysely';
import type { Sessions } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { CHUNK_ROWS, DEFAULT_LIMIT, type Page } from './page.ts';

/** A row is one refresh token. The rows that follow from one login are a family, named by the first row's id. */
export type SessionRow = Selectable<Sessions>;
export type NewSession = Omit<Insertable<Sessions>, 'id' | 'successor_id' | 'used_at' | 'revoked_at'>;

/** Without `family_id` it starts a family of its own. */
export async function insertSession(tx: Tx, session: NewSession): Promise<SessionRow> {
  const row = await tx.kysely.insertInto('sessions').values(session).returningAll().executeTakeFirstOrThrow();
  if (row.family_id !== null) return row;
  await tx.kysely.updateTable('sessions').set({ family_id: row.id }).where('id', '=', row.id).execute();
  return { ...row, family_id: row.id };
}

export function findSessionByTokenHash(q: Queryable, tokenHash: string): Promise<SessionRow | undefined> {
  return q.kysely.selectFrom('sessions').selectAll().where('token_hash', '=', tokenHash).executeTakeFirst();
}

export function findSession(q: Queryable, id: number): Promise<SessionRow | undefined> {
  return q.kysely.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst();
}

/** Whether the user ever logged in or refreshed from this address. */
export async function hasSessionFrom(q: Queryable, userId: number, ip: string): Promise<boolean> {
  const known = q.kysely
    .selectFrom('sessions')
    .select('id')
    .where('user_id', '=', userId)
    .where('ip', '=', ip)
    .limit(1);
  return (await known.executeTakeFirst()) !== undefined;
}

/** Spends a refresh token. Undefined when it was spent or revoked before: of two calls at once, one wins. */
export function useSession(q: Queryable, id: number, at: string): Promise<SessionRow | undefined> {
  return q.kysely
    .updateTable('sessions')
    .set({ used_at: at })
    .where('id', '=', id)
    .where('used_at', 'is', null)
    .where('revoked_at', 'is', null)
    .returningAll()
    .executeTakeFirst();
}

export async function setSuccessor(q: Queryable, id: number, successorId: number): Promise<void> {
  await q.kysely.updateTable('sessions').set({ successor_id: successorId }).where('id', '=', id).execute();
}

export interface Replacement {
  /** The spent session whose answer was lost. */
  readonly id: number;
  /** What was handed out for it and never used. */
  readonly oldSuccessorId: number;
  readonly newSuccessorId: number;
  readonly at: string;
}

/** Puts a new successor in the place of one that was never used. False when it has been used meanwhile: a stolen token. */
export async function replaceSuccessor(
  tx: Tx,
  { id, oldSuccessorId, newSuccessorId, at }: Replacement,
): Promise<boolean> {
  const revoked = await tx.kysely
    .updateTable('sessions')
    .set({ revoked_at: at })
    .where('id', '=', oldSuccessorId)
    .where('used_at', 'is', null)
    .where('revoked_at', 'is', null)
    .returning('id')
    .executeTakeFirst();
  if (revoked === undefined) return false;
  await setSuccessor(tx, id, newSuccessorId);
  return true;
}

/** Ends a login with all its tokens. Answers how many tokens that cut off. */
export async function revokeFamily(q: Queryable, familyId: number, at: string): Promise<number> {
  const result = await q.kysely
    .updateTable('sessions')
    .set({ revoked_at: at })
    .where('family_id', '=', familyId)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

export interface RevokeUserSessions {
  readonly at: string;
  /** The login that stays, such as the one that changes the password. */
  readonly exceptFamilyId?: number | undefined;
}

export async function revokeUserSessions(q: Queryable, userId: number, options: RevokeUserSessions): Promise<number> {
  const result = await q.kysely
    .updateTable('sessions')
    .set({ revoked_at: options.at })
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .where('family_id', '!=', options.exceptFamilyId ?? 0)
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** When a login was ended; null while it lives; undefined if there is none. */
export async function findFamilyRevocation(q: Queryable, familyId: number): Promise<string | null | undefined> {
  const row = await q.kysely.selectFrom('sessions').select('revoked_at').where('id', '=', familyId).executeTakeFirst();
  return row?.revoked_at;
}

/** A login as its owner sees it in a list. */
export interface LiveFamily {
  /** The family's id. */
  readonly id: number;
  readonly created_at: string;
  readonly refreshed_at: string;
  readonly expires_at: string;
  readonly user_agent: string | null;
  readonly ip: string | null;
}

/** Logins that can still be refreshed at `now`. */
export function listLiveFamilies(q: Queryable, userId: number, now: string, page: Page = {}): Promise<LiveFamily[]> {
  return q.kysely
    .selectFrom('sessions as token')
    .innerJoin('sessions as login', 'login.id', 'token.family_id')
    .select(['login.id', 'login.created_at', 'token.created_at as refreshed_at'])
    .select(['token.expires_at', 'token.user_agent', 'token.ip'])
    .where('token.user_id', '=', userId)
    .where('token.used_at', 'is', null)
    .where('token.revoked_at', 'is', null)
    .where('token.expires_at', '>', now)
    .where('login.revoked_at', 'is', null)
    .where('login.id', '>', page.afterId ?? 0)
    .orderBy('login.id')
    .limit(page.limit ?? DEFAULT_LIMIT)
    .offset(page.skip ?? 0)
    .execute();
}

/** Deletes logins of which every token ended before `before`, some hundred a call. Answers how many rows went. */
export async function purgeSessions(q: Queryable, before: string): Promise<number> {
  const ended = q.kysely
    .selectFrom('sessions')
    .select('family_id')
    .groupBy('family_id')
    .having((eb) => eb(eb.fn.max('expires_at'), '<', before))
    .limit(CHUNK_ROWS);
  const result = await q.kysely.deleteFrom('sessions').where('family_id', 'in', ended).executeTakeFirst();
  return Number(result.numDeletedRows);
}

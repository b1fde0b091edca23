import { type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import type { Servers } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { countOf, given, onPage, type Page } from './page.ts';

export type ServerRow = Selectable<Servers>;
export type NewServer = Omit<Insertable<Servers>, 'id'>;
export type ServerPatch = Omit<
  Updateable<Servers>,
  'id' | 'created_at' | 'lease_owner' | 'lease_until' | 'lease_token'
>;

export interface ServerFilter {
  readonly region?: string | undefined;
  readonly mode?: ServerRow['mode'] | undefined;
  readonly origin?: ServerRow['origin'] | undefined;
  /** Default: those that were not removed. */
  readonly which?: 'kept' | 'all' | undefined;
}

/** A taken name is a unique violation of `servers(name)`. */
export function insertServer(q: Queryable, server: NewServer): Promise<ServerRow> {
  return q.kysely.insertInto('servers').values(server).returningAll().executeTakeFirstOrThrow();
}

/**
 * The server that the environment describes: made at the first start, brought up to date at every other one. Only the
 * columns given are rewritten.
 */
export function upsertEnvServer(q: Queryable, server: Omit<NewServer, 'origin'>): Promise<ServerRow> {
  const { created_at: _, name: __, ...described } = server;
  return q.kysely
    .insertInto('servers')
    .values({ ...server, origin: 'env' })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ ...described, origin: 'env' }))
    .returningAll()
    .executeTakeFirstOrThrow();
}

export function findServer(q: Queryable, id: number): Promise<ServerRow | undefined> {
  return q.kysely.selectFrom('servers').selectAll().where('id', '=', id).executeTakeFirst();
}

export function findServerByName(q: Queryable, name: string): Promise<ServerRow | undefined> {
  return q.kysely.selectFrom('servers').selectAll().where('name', '=', name).executeTakeFirst();
}

/** After the user's lock. Serialises the choice of addresses on one server. */
export function lockServer(tx: Tx, id: number): Promise<ServerRow | undefined> {
  return tx.kysely
    .selectFrom('servers')
    .selectAll()
    .where('id', '=', id)
    .modifyEnd(tx.dialect.forUpdate)
    .executeTakeFirst();
}

export function listServers(q: Queryable, filter: ServerFilter = {}, page: Page = {}): Promise<ServerRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countServers(q: Queryable, filter: ServerFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

export interface ServerLoad {
  readonly server_id: number;
  /** Peers that are not being removed. */
  readonly peers: number;
  /** Since when the oldest change waits for the host; null when none does. */
  readonly oldest_pending_since: string | null;
}

/** For choosing a server and for showing some: a row for each server that has peers, of those named or of all. */
export function listServerLoads(q: Queryable, serverIds?: readonly number[]): Promise<ServerLoad[]> {
  return q.kysely
    .selectFrom('peers')
    .select('server_id')
    .$if(serverIds !== undefined, (query) => query.where('server_id', 'in', serverIds as readonly number[]))
    .select((eb) => eb.fn.count<number>('id').filterWhere('removed_at', 'is', null).as('peers'))
    .select((eb) => eb.fn.min<string | null>('pending_since').as('oldest_pending_since'))
    .groupBy('server_id')
    .orderBy('server_id')
    .execute();
}

export function updateServer(q: Queryable, id: number, patch: ServerPatch): Promise<ServerRow> {
  return q.kysely.updateTable('servers').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

/** Keeps what a host told about itself where nobody has said it: a person's word, said meanwhile, stands. */
export function recordLearned(
  q: Queryable,
  id: number,
  { public_key, endpoint }: Pick<ServerRow, 'public_key' | 'endpoint'>,
): Promise<ServerRow> {
  return q.kysely
    .updateTable('servers')
    .set({ public_key: sql`coalesce(public_key, ${public_key})`, endpoint: sql`coalesce(endpoint, ${endpoint})` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Whether a host still has to confirm that something of ours is gone. */
export async function owesRemovals(q: Queryable, serverId: number): Promise<boolean> {
  const { rows } = await sql`select 1 from host_peers where server_id = ${serverId} and gone_at is null
    union all select 1 from peers
      where server_id = ${serverId} and removed_at is not null and applied_state <> 'absent' limit 1`.execute(q.kysely);
  return rows.length > 0;
}

/**
 * Nobody waits for the confirmations of this host any more: what it never confirmed counts as gone. Its keys stay known as
 * ours, so that they are removed should it return. Only for a server without live peers, whose row is locked.
 */
export async function forgiveRemovals(tx: Tx, serverId: number, at: string): Promise<void> {
  await tx.kysely
    .updateTable('host_peers')
    .set({ gone_at: at, retired_at: sql<string>`coalesce(retired_at, ${at})` })
    .where('server_id', '=', serverId)
    .where('gone_at', 'is', null)
    .execute();
  await tx.kysely
    .updateTable('peers')
    .set({ applied_state: 'absent', applied_version: sql<number>`wanted_version`, pending_since: null })
    .set({ last_error: null, attempts: 0, next_attempt_at: null })
    .where('server_id', '=', serverId)
    .where('removed_at', 'is not', null)
    .where('applied_state', '!=', 'absent')
    .execute();
}

export interface HostInheritance {
  /** Removed servers. */
  readonly from: readonly number[];
  readonly to: number;
  readonly at: string;
}

/**
 * Writes down for a server what earlier ones tried to put on the same host: should the host still have such a key, it is
 * ours and must go.
 */
export async function inheritHostPeers(tx: Tx, { from, to, at }: HostInheritance): Promise<void> {
  if (from.length === 0) return;
  const instant = sql`cast(${at} as ${sql.raw(tx.dialect.tokens.instant)})`;
  await sql`insert into host_peers (server_id, public_key, peer_id, created_at, retired_at, gone_at)
    select cast(${to} as integer), public_key, max(peer_id), ${instant}, ${instant}, ${instant}
    from host_peers where server_id in (${sql.join(from)}) group by public_key
    on conflict (server_id, public_key) do nothing`.execute(tx.kysely);
}

/** What a server tells its clients has changed: all of them must fetch their configs again. Before the server's own lock. */
export async function raiseConfigVersions(tx: Tx, serverId: number): Promise<void> {
  await tx.kysely
    .updateTable('peers')
    .set({ config_version: sql<number>`config_version + 1` })
    .where('server_id', '=', serverId)
    .where('removed_at', 'is', null)
    .execute();
}

export interface LeaseClaim {
  readonly serverId: number;
  /** Names the instance, and this run of it. */
  readonly owner: string;
  readonly now: string;
  readonly until: string;
  /** No lease that ends later than this is believed: the clock was set back since it was written. */
  readonly latest: string;
}

/**
 * Takes the right to work on a host. Answers the fencing token, which is higher than any before it, or undefined while
 * somebody else holds the lease.
 */
export async function claimLease(
  q: Queryable,
  { serverId, owner, now, until, latest }: LeaseClaim,
): Promise<number | undefined> {
  const row = await q.kysely
    .updateTable('servers')
    .set((eb) => ({ lease_owner: owner, lease_until: until, lease_token: eb('lease_token', '+', 1) }))
    .where('id', '=', serverId)
    .where((eb) => eb.or([eb('lease_until', 'is', null), eb('lease_until', '<=', now), eb('lease_until', '>', latest)]))
    .returning('lease_token')
    .executeTakeFirst();
  return row?.lease_token;
}

export interface Lease {
  readonly serverId: number;
  readonly token: number;
}

/** False when the lease has run out or was taken over: stop working on the host. */
export async function renewLease(
  q: Queryable,
  { serverId, token }: Lease,
  { now, until }: Pick<LeaseClaim, 'now' | 'until'>,
): Promise<boolean> {
  const row = await q.kysely
    .updateTable('servers')
    .set({ lease_until: until })
    .where('id', '=', serverId)
    .where('lease_token', '=', token)
    .where('lease_until', '>', now)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

export async function releaseLease(q: Queryable, { serverId, token }: Lease): Promise<void> {
  await q.kysely
    .updateTable('servers')
    .set({ lease_owner: null, lease_until: null })
    .where('id', '=', serverId)
    .where('lease_token', '=', token)
    .execute();
}

/** For the only process of an embedded database, at its start: whoever held a lease is dead. Fencing tokens stay. */
export async function releaseAllLeases(q: Queryable): Promise<void> {
  await q.kysely.updateTable('servers').set({ lease_owner: null, lease_until: null }).execute();
}

/** Whether nobody has claimed the server since. Checked in the transaction that records what was done to the host. */
export async function holdsLease(tx: Tx, { serverId, token }: Lease): Promise<boolean> {
  return (await lockServer(tx, serverId))?.lease_token === token;
}

export interface ServerSeen {
  readonly at: string;
  readonly pendingChanges: number;
  /** Why a pass stopped and waits for a person; null when it did not. */
  readonly brakeReason: string | null;
  /** As the host last told it; null for hosts that do not. */
  readonly driverVersion: string | null;
}

/** The host answered and a pass came to its end. Ignored after the lease was lost. */
export async function recordServerSeen(q: Queryable, lease: Lease, seen: ServerSeen): Promise<void> {
  await leased(q, lease)
    .set({ last_seen_at: seen.at, last_error: null, last_error_at: null, attempts: 0, next_attempt_at: null })
    .set({ pending_changes: seen.pendingChanges, brake_reason: seen.brakeReason, driver_version: seen.driverVersion })
    .execute();
}

export interface ServerFailure {
  readonly at: string;
  readonly error: string;
  readonly nextAttemptAt: string;
}

/** The host did not answer, or refused. Ignored after the lease was lost. */
export async function recordServerFailed(q: Queryable, lease: Lease, failure: ServerFailure): Promise<void> {
  await leased(q, lease)
    .set({ last_error: failure.error, last_error_at: failure.at, next_attempt_at: failure.nextAttemptAt })
    .set({ attempts: sql<number>`attempts + 1` })
    .execute();
}

function leased(q: Queryable, { serverId, token }: Lease) {
  return q.kysely.updateTable('servers').where('id', '=', serverId).where('lease_token', '=', token);
}

function matching(q: Queryable, { region, mode, origin, which = 'kept' }: ServerFilter) {
  const query = q.kysely.selectFrom('servers').where((eb) => eb.and(given({ region, mode, origin })));
  return which === 'all' ? query : query.where('removed_at', 'is', null);
}

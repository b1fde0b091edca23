import { type Insertable, type RawBuilder, type Selectable, sql, type Updateable } from 'kysely';
import type { Peers } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { bulkValues, chunks, countOf, given, onPage, type Page } from './page.ts';

export type PeerRow = Selectable<Peers>;
export type NewPeer = Omit<Insertable<Peers>, 'id'>;
export type PeerPatch = Omit<Updateable<Peers>, 'id' | 'user_id' | 'created_at'>;

export interface PeerFilter {
  readonly userId?: number | undefined;
  readonly serverId?: number | undefined;
  /** Default `live`. `removing`: must go and may still be on the host. */
  readonly which?: 'live' | 'removing' | 'all' | undefined;
}

/** Violates `peers(server_id, address_index)` or `peers(public_key)` when the address or the key is taken. */
export function insertPeer(tx: Tx, peer: NewPeer): Promise<PeerRow> {
  return tx.kysely.insertInto('peers').values(peer).returningAll().executeTakeFirstOrThrow();
}

export function findPeer(q: Queryable, id: number): Promise<PeerRow | undefined> {
  return q.kysely.selectFrom('peers').selectAll().where('id', '=', id).executeTakeFirst();
}

/** After the locks of the user and the payment. */
export function lockPeer(tx: Tx, id: number): Promise<PeerRow | undefined> {
  return tx.kysely
    .selectFrom('peers')
    .selectAll()
    .where('id', '=', id)
    .modifyEnd(tx.dialect.forUpdate)
    .executeTakeFirst();
}

/** Peers of a user that are not being removed, oldest first: the order in which the device limit lets them live. */
export function listPeersForUser(q: Queryable, userId: number): Promise<PeerRow[]> {
  return live(q).selectAll().where('user_id', '=', userId).orderBy('id').execute();
}

/** What a repeated call with the same key means: the live peer that the user submitted this key for. */
export function findPeerBySubmittedKey(
  q: Queryable,
  userId: number,
  submittedKey: string,
): Promise<PeerRow | undefined> {
  return live(q)
    .selectAll()
    .where('user_id', '=', userId)
    .where('submitted_key', '=', submittedKey)
    .orderBy('id')
    .limit(1)
    .executeTakeFirst();
}

/** A live peer of a host that makes the keys and has not told them yet, by what its owner called the device. */
export function findKeylessPeer(q: Queryable, userId: number, deviceName: string | null): Promise<PeerRow | undefined> {
  const keyless = live(q).selectAll().where('user_id', '=', userId).where('public_key', 'is', null);
  const named =
    deviceName === null ? keyless.where('device_name', 'is', null) : keyless.where('device_name', '=', deviceName);
  return named.orderBy('id').limit(1).executeTakeFirst();
}

/** The servers that a user's peers are on, those included that must still go from there. */
export async function listServerIdsOfUser(q: Queryable, userId: number): Promise<number[]> {
  const rows = await q.kysely
    .selectFrom('peers')
    .select('server_id')
    .distinct()
    .where('user_id', '=', userId)
    .where((eb) => eb.or([eb('removed_at', 'is', null), eb('applied_state', '!=', 'absent')]))
    .execute();
  return rows.map((row) => row.server_id);
}

/** Which of the keys other live peers have than those they are named for, or servers themselves. */
export async function listKeysOfOthers(
  q: Queryable,
  keys: readonly { readonly publicKey: string; readonly peerId: number }[],
): Promise<ReadonlySet<string>> {
  const owners = new Map(keys.map(({ publicKey, peerId }) => [publicKey, peerId]));
  const taken = new Set<string>();
  for (const some of chunks([...owners.keys()])) {
    const { rows } = await sql<{ public_key: string; id: number | null }>`select public_key, id from peers
        where public_key in (${sql.join(some)}) and removed_at is null
      union all select public_key, null from servers where public_key in (${sql.join(some)})`.execute(q.kysely);
    for (const { public_key, id } of rows) if (owners.get(public_key) !== id) taken.add(public_key);
  }
  return taken;
}

/** Devices as the limit counts them: everything that is not being removed, deactivated peers too. */
export function countDevices(q: Queryable, userId: number): Promise<number> {
  return countOf(live(q).where('user_id', '=', userId));
}

/**
 * Whether a key is in use anywhere: by a live peer, one that must still go from a host, a foreign one, or as a server's own.
 * `exceptForeignOn`: for making a foreign peer of that server ours.
 */
export async function isPublicKeyTaken(
  q: Queryable,
  publicKey: string,
  { exceptForeignOn = 0 }: { readonly exceptForeignOn?: number } = {},
): Promise<boolean> {
  const { rows } = await sql`select 1 from peers where public_key = ${publicKey} and removed_at is null
    union all select 1 from host_peers where public_key = ${publicKey} and gone_at is null
    union all select 1 from foreign_peers where public_key = ${publicKey} and server_id <> ${exceptForeignOn}
    union all select 1 from servers where public_key = ${publicKey} limit 1`.execute(q.kysely);
  return rows.length > 0;
}

/** All devices of the users, on whichever server, as the limit counts and ranks them: those being removed are left out. */
export async function listDevicesOfUsers(q: Queryable, userIds: readonly number[]): Promise<PeerRow[]> {
  const rows: PeerRow[] = [];
  for (const some of chunks(userIds)) {
    rows.push(...(await live(q).selectAll().where('user_id', 'in', some).orderBy('id').execute()));
  }
  return rows;
}

export function listPeers(q: Queryable, filter: PeerFilter = {}, page: Page = {}): Promise<PeerRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countPeers(q: Queryable, filter: PeerFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

/** Users with a live peer on a server, in order of id. */
export async function listUsersOfServer(q: Queryable, serverId: number): Promise<number[]> {
  const query = live(q).select('user_id').distinct().where('server_id', '=', serverId).orderBy('user_id');
  return (await query.execute()).map((row) => row.user_id);
}

/** Changes nothing about what the host should hold; for that see {@link changePeer}. */
export function updatePeer(tx: Tx, id: number, patch: PeerPatch): Promise<PeerRow> {
  return tx.kysely.updateTable('peers').set(patch).where('id', '=', id).returningAll().executeTakeFirstOrThrow();
}

/** Changes a peer and wants a new version of it on the host: what was tried before no longer counts. */
export function changePeer(tx: Tx, id: number, patch: PeerPatch & { readonly at: string }): Promise<PeerRow> {
  const { at, ...columns } = patch;
  return tx.kysely
    .updateTable('peers')
    .set({ ...columns, ...wanted(at) })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The keys and the address stay taken until the hosts confirm. Answers the peers that were live. */
export function removePeersOfUser(tx: Tx, userId: number, at: string): Promise<PeerRow[]> {
  return tx.kysely
    .updateTable('peers')
    .set({ ...wanted(at), removed_at: at })
    .where('user_id', '=', userId)
    .where('removed_at', 'is', null)
    .returningAll()
    .execute();
}

function wanted(at: string) {
  return {
    wanted_version: sql<number>`wanted_version + 1`,
    pending_since: sql<string>`coalesce(pending_since, ${at})`,
    last_error: null,
    attempts: 0,
    next_attempt_at: null,
  };
}

export interface ReportedColumns
  extends Pick<
    PeerRow,
    'public_key' | 'private_key_sealed' | 'preshared_key_sealed' | 'wg_ip' | 'wg_ip6' | 'config_version'
  > {
  readonly id: number;
  /** The wanted version that was asked for. */
  readonly version: number;
}

/**
 * Keys and addresses as the host made them. Answers the peers that have them now: not those that were changed or removed
 * since the host was asked.
 */
export async function recordReported(tx: Tx, reported: readonly ReportedColumns[]): Promise<ReadonlySet<number>> {
  const columns = {
    id: 'integer',
    version: 'integer',
    public_key: 'text',
    private_key_sealed: 'text',
    preshared_key_sealed: 'text',
    wg_ip: 'text',
    wg_ip6: 'text',
    config_version: 'integer',
  } as const;
  const kept = new Set<number>();
  for (const some of chunks(reported)) {
    const { rows } = await sql<{ id: number }>`with made (${sql.raw(Object.keys(columns).join(', '))})
        as ${bulkValues(tx.dialect, columns, some)}
      update peers set key_origin = 'host', public_key = made.public_key, private_key_sealed = made.private_key_sealed,
        preshared_key_sealed = made.preshared_key_sealed, wg_ip = made.wg_ip, wg_ip6 = made.wg_ip6,
        config_version = made.config_version
      from made where made.id = peers.id and peers.wanted_version = made.version and peers.removed_at is null
      returning peers.id`.execute(tx.kysely);
    for (const { id } of rows) kept.add(id);
  }
  return kept;
}

/** Numbers peers in the pools of their server: what they were given by a host becomes ours to give. */
export async function givePlaces(
  tx: Tx,
  places: readonly { readonly id: number; readonly address_index: number }[],
): Promise<void> {
  const columns = { id: 'integer', address_index: 'integer' } as const;
  for (const some of chunks(places)) {
    await sql`with placed (id, address_index) as ${bulkValues(tx.dialect, columns, some)}
      update peers set address_index = placed.address_index from placed where placed.id = peers.id`.execute(tx.kysely);
  }
}

export interface Applied {
  readonly id: number;
  /** The server it is so on. */
  readonly serverId: number;
  /** The wanted version that the pass worked from. */
  readonly version: number;
  readonly state: PeerRow['applied_state'];
}

/**
 * Records what the host now has. A peer that was changed meanwhile stays pending, one that was moved is none of this
 * host's business any more, and an older pass never overwrites what a newer one recorded. Answers how many rows were
 * recorded.
 */
export async function recordApplied(q: Queryable, applied: readonly Applied[], at: string): Promise<number> {
  const columns = { id: 'integer', serverId: 'integer', version: 'integer', state: 'text' } as const;
  let recorded = 0;
  for (const some of chunks(applied)) {
    const result = await sql`with done (id, server_id, version, state) as ${bulkValues(q.dialect, columns, some)}
      update peers set applied_version = done.version, applied_state = done.state, applied_at = ${at},
        last_error = null, attempts = 0, next_attempt_at = null,
        pending_since = case when wanted_version = done.version then null else pending_since end
      from done where done.id = peers.id and done.server_id = peers.server_id
        and applied_version <= done.version and wanted_version >= done.version`.execute(q.kysely);
    recorded += Number(result.numAffectedRows ?? 0);
  }
  return recorded;
}

export interface Failed {
  readonly id: number;
  readonly version: number;
  /** What the host has instead of this version. */
  readonly state: PeerRow['applied_state'];
  /** Safe to show to an operator. null: it was not tried, and no attempt is counted. */
  readonly error: string | null;
  readonly nextAttemptAt: string | null;
}

/** Records that the host does not have the wanted version of peers, and why. Those that somebody changed meanwhile are left out. */
export async function recordFailed(q: Queryable, failed: readonly Failed[]): Promise<void> {
  const columns = {
    id: 'integer',
    version: 'integer',
    state: 'text',
    error: 'text',
    nextAttemptAt: 'instant',
  } as const;
  for (const some of chunks(failed)) {
    await sql`with failed (id, version, state, error, next_attempt_at) as ${bulkValues(q.dialect, columns, some)}
      update peers set last_error = failed.error, next_attempt_at = failed.next_attempt_at,
        attempts = attempts + case when failed.error is null then 0 else 1 end,
        applied_state = failed.state,
        applied_version = case when applied_version < failed.version then applied_version else failed.version - 1 end
      from failed where failed.id = peers.id and wanted_version = failed.version`.execute(q.kysely);
  }
}

/** Places from `from` to `to` in a server's pool that nobody has. `to` is null behind the highest one. */
export interface AddressGap {
  readonly from: number;
  readonly to: number | null;
}

export interface AddressQuery {
  readonly serverId: number;
  /** An address rests after its host confirmed that it is free: places freed later than this are still taken. */
  readonly restingSince: string;
}

/**
 * The highest place that is taken in a server's pool, or null. Two index look-ups, however many peers. The caller holds
 * the server's lock until it has inserted.
 */
export async function findHighestAddress(q: Queryable, query: AddressQuery): Promise<number | null> {
  const { rows } = await sql<{ place: number | null }>`select max(place) as place from (
    select * from (select place from (${peerPlaces(query)}) as a order by place desc limit 1) as highest_peer
    union all
    select * from (select place from (${hostPeerPlaces(query)}) as b order by place desc limit 1) as highest_host_peer
  ) as highest`.execute(q.kysely);
  return rows[0]?.place ?? null;
}

/** Whether one place is taken. The caller holds the server's lock until it has inserted. */
export async function isAddressTaken(q: Queryable, query: AddressQuery, place: number): Promise<boolean> {
  const { rows } = await sql`select 1 from (${takenPlaces(query)}) as taken where place = ${place} limit 1`.execute(
    q.kysely,
  );
  return rows.length > 0;
}

/**
 * Free places from `first` upwards, read from the whole index of the server: for when the top of the pool is reached.
 * The caller holds the server's lock until it has inserted.
 */
export async function listAddressGaps(
  q: Queryable,
  query: AddressQuery,
  { first, limit }: { readonly first: number; readonly limit: number },
): Promise<AddressGap[]> {
  const { rows } = await sql<AddressGap>`
    select place + 1 as "from", next_place - 1 as "to" from (
      select place, lead(place) over (order by place) as next_place
      from (${takenPlaces(query)} union all select cast(${first - 1} as integer)) as taken
    ) as places
    where (next_place > place + 1 or next_place is null) and place >= ${first - 1}
    order by place limit ${limit}`.execute(q.kysely);
  return rows;
}

function peerPlaces({ serverId }: AddressQuery): RawBuilder<unknown> {
  return sql`select address_index as place from peers where server_id = ${serverId} and address_index is not null`;
}

function hostPeerPlaces({ serverId, restingSince }: AddressQuery): RawBuilder<unknown> {
  return sql`select address_index as place from host_peers
    where server_id = ${serverId} and address_index is not null and (gone_at is null or gone_at > ${restingSince})`;
}

function takenPlaces(query: AddressQuery): RawBuilder<unknown> {
  return sql`${peerPlaces(query)} union all ${hostPeerPlaces(query)}`;
}

/** Frees the addresses of removed peers that are off their hosts and whose keys have rested since `restingSince`. Answers how many. */
export async function releaseRestedAddresses(q: Queryable, restingSince: string): Promise<number> {
  const result = await q.kysely
    .updateTable('peers')
    .set({ address_index: null })
    .where('removed_at', 'is not', null)
    .where('address_index', 'is not', null)
    .where('applied_state', '=', 'absent')
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('host_peers')
            .select('host_peers.id')
            .whereRef('host_peers.peer_id', '=', 'peers.id')
            .where((on) => on.or([on('gone_at', 'is', null), on('gone_at', '>', restingSince)])),
        ),
      ),
    )
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

function live(q: Queryable) {
  return q.kysely.selectFrom('peers').where('removed_at', 'is', null);
}

function matching(q: Queryable, { userId, serverId, which = 'live' }: PeerFilter) {
  const query = q.kysely.selectFrom('peers').where((eb) => eb.and(given({ user_id: userId, server_id: serverId })));
  if (which === 'all') return query;
  if (which === 'live') return query.where('removed_at', 'is', null);
  return query.where('removed_at', 'is not', null).where('applied_state', '!=', 'absent');
}

import { type Selectable, sql } from 'kysely';
import type { HostPeers } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { bulkValues, chunks } from './page.ts';

/** A key that we tried to put on a host: what is in here is ours, everything else on the host is foreign. */
export type HostPeerRow = Selectable<HostPeers>;

export interface KeyClaim {
  readonly serverId: number;
  readonly publicKeys: readonly string[];
  readonly at: string;
}

/**
 * Writes down that the keys of live peers are ours on their host, with the addresses they are to have there: committed
 * before the attempt to put them there. A tombstone of the same peer lives again. Answers the keys that are ours now; left
 * out are those that no live peer has any more, and those that the host still holds for another peer.
 */
export async function claimHostPeers(tx: Tx, { serverId, publicKeys, at }: KeyClaim): Promise<string[]> {
  const claimed: string[] = [];
  for (const some of chunks(publicKeys)) {
    const { rows } = await sql<{ public_key: string }>`
      insert into host_peers (server_id, public_key, peer_id, address_index, created_at)
      select server_id, public_key, id, address_index, ${at} from peers
      where server_id = ${serverId} and removed_at is null and public_key in (${sql.join(some)})
      on conflict (server_id, public_key) do update
        set peer_id = excluded.peer_id, address_index = excluded.address_index, retired_at = null, gone_at = null
        where host_peers.peer_id = excluded.peer_id or host_peers.gone_at is not null
      returning public_key`.execute(tx.kysely);
    claimed.push(...rows.map((row) => row.public_key));
  }
  return claimed;
}

export interface ReportedKey {
  readonly peerId: number;
  readonly publicKey: string;
}

export interface ReportedKeys {
  readonly serverId: number;
  /** No key twice. */
  readonly keys: readonly ReportedKey[];
  readonly at: string;
}

/** Writes down keys that the host made for peers. What was a tombstone lives again. */
export async function claimReportedKeys(tx: Tx, { serverId, keys, at }: ReportedKeys): Promise<void> {
  const columns = { peerId: 'integer', publicKey: 'text' } as const;
  for (const some of chunks(keys)) {
    // "where true" tells SQLite that the conflict clause is not part of the join.
    await sql`with made (peer_id, public_key) as ${bulkValues(tx.dialect, columns, some)}
      insert into host_peers (server_id, public_key, peer_id, address_index, created_at)
      select cast(${serverId} as integer), made.public_key, peers.id, peers.address_index, cast(${at} as ${sql.raw(tx.dialect.tokens.instant)})
      from made join peers on peers.id = made.peer_id where true
      on conflict (server_id, public_key) do update
        set peer_id = excluded.peer_id, retired_at = null, gone_at = null`.execute(tx.kysely);
  }
}

/** A key that must go from one host although its peer lives. */
export async function retireHostKey(
  tx: Tx,
  { serverId, publicKey, at }: { readonly serverId: number; readonly publicKey: string; readonly at: string },
): Promise<void> {
  await tx.kysely
    .updateTable('host_peers')
    .set({ retired_at: at })
    .where('server_id', '=', serverId)
    .where('public_key', '=', publicKey)
    .where('retired_at', 'is', null)
    .execute();
}

/** Every key of ours that the host has or ever had, in order of id. */
export function listHostPeers(q: Queryable, serverId: number): Promise<HostPeerRow[]> {
  return q.kysely.selectFrom('host_peers').selectAll().where('server_id', '=', serverId).orderBy('id').execute();
}

export function findHostPeer(q: Queryable, serverId: number, publicKey: string): Promise<HostPeerRow | undefined> {
  return q.kysely
    .selectFrom('host_peers')
    .selectAll()
    .where('server_id', '=', serverId)
    .where('public_key', '=', publicKey)
    .executeTakeFirst();
}

export interface Retirement {
  readonly at: string;
  /** Only on this server: the peer moves. Default: everywhere. */
  readonly serverId?: number | undefined;
  /** The key that stays: the peer's new one. */
  readonly exceptKey?: string | undefined;
}

/** Leaves tombstones: the keys of a peer that must go from their hosts. Answers how many. */
export async function retireHostPeers(
  q: Queryable,
  peerId: number,
  { at, serverId, exceptKey }: Retirement,
): Promise<number> {
  const result = await q.kysely
    .updateTable('host_peers')
    .set({ retired_at: at })
    .where('peer_id', '=', peerId)
    .where('retired_at', 'is', null)
    .$if(serverId !== undefined, (query) => query.where('server_id', '=', serverId as number))
    .$if(exceptKey !== undefined, (query) => query.where('public_key', '!=', exceptKey as string))
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** All keys of a user's removed peers, in one statement. */
export async function retireHostPeersOfUser(q: Queryable, userId: number, at: string): Promise<number> {
  const result = await q.kysely
    .updateTable('host_peers')
    .set({ retired_at: at })
    .where('retired_at', 'is', null)
    .where('peer_id', 'in', (eb) =>
      eb.selectFrom('peers').select('peers.id').where('user_id', '=', userId).where('removed_at', 'is not', null),
    )
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** The host confirmed that keys are gone; their addresses rest from `at`. A key that a live peer has by now stays. */
export async function markGone(q: Queryable, ids: readonly number[], at: string): Promise<number> {
  let gone = 0;
  for (const some of chunks(ids)) {
    const result = await q.kysely
      .updateTable('host_peers')
      .set({ gone_at: at, retired_at: sql<string>`coalesce(retired_at, ${at})` })
      .where('id', 'in', some)
      .where('gone_at', 'is', null)
      .where((eb) => eb.not(eb.exists(livePeerWithKey())))
      .executeTakeFirst();
    gone += Number(result.numUpdatedRows);
  }
  return gone;
}

function livePeerWithKey() {
  return sql`(select 1 from peers where peers.server_id = host_peers.server_id
    and peers.public_key = host_peers.public_key and peers.removed_at is null)`;
}

import { sql } from 'kysely';
import type { Queryable } from '../store.ts';
import { type ForeignPeerRow, listForeignPeers } from './foreign-peers.ts';
import { type HostPeerRow, listHostPeers } from './host-peers.ts';
import type { PeerRow } from './peers.ts';
import { findServer, type ServerRow } from './servers.ts';
import type { SubscriptionPeriodRow } from './subscription-periods.ts';
import type { UserRow } from './users.ts';

export type SnapshotPeer = PeerRow & {
  /** How many older live peers its user has, on any server: from the device limit on, a peer is suspended. */
  readonly device_rank: number;
};

export type SnapshotUser = Pick<UserRow, 'id' | 'status' | 'blocked_at' | 'removed_at'>;

export type SnapshotPeriod = SubscriptionPeriodRow & {
  /** Set while the payment that bought the period is disputed. */
  readonly disputed_at: string | null;
};

/** Everything the reconciler reads to know what a host should hold. */
export interface ServerSnapshot {
  readonly server: ServerRow;
  /** Peers that should be on this host or may still be, in order of id: live ones, and removed or moved ones with a key here. */
  readonly peers: readonly SnapshotPeer[];
  readonly hostPeers: readonly HostPeerRow[];
  readonly users: readonly SnapshotUser[];
  /** In order of user and `seq`. */
  readonly periods: readonly SnapshotPeriod[];
  readonly foreignPeers: readonly ForeignPeerRow[];
}

/** Six queries, however many peers. Undefined when there is no such server. */
export async function snapshotForServer(q: Queryable, serverId: number): Promise<ServerSnapshot | undefined> {
  const server = await findServer(q, serverId);
  if (server === undefined) return undefined;
  return {
    server,
    peers: await concernedPeers(q, serverId),
    hostPeers: await listHostPeers(q, serverId),
    users: await concernedUsers(q, serverId),
    periods: await concernedPeriods(q, serverId),
    foreignPeers: await listForeignPeers(q, serverId),
  };
}

function concernedPeers(q: Queryable, serverId: number): Promise<SnapshotPeer[]> {
  return q.kysely
    .selectFrom('peers')
    .selectAll('peers')
    .select(olderDevices.as('device_rank'))
    .where('peers.id', 'in', peerIds(serverId))
    .orderBy('peers.id')
    .execute();
}

const olderDevices = sql<number>`(select count(*) from peers as older
  where older.user_id = peers.user_id and older.id < peers.id and older.removed_at is null)`;

function concernedUsers(q: Queryable, serverId: number): Promise<SnapshotUser[]> {
  return q.kysely
    .selectFrom('users')
    .select(['id', 'status', 'blocked_at', 'removed_at'])
    .where('id', 'in', userIds(serverId))
    .orderBy('id')
    .execute();
}

function concernedPeriods(q: Queryable, serverId: number): Promise<SnapshotPeriod[]> {
  return q.kysely
    .selectFrom('subscription_periods as period')
    .leftJoin('payments', 'payments.id', 'period.payment_id')
    .selectAll('period')
    .select('payments.disputed_at')
    .where('period.user_id', 'in', userIds(serverId))
    .orderBy('period.user_id')
    .orderBy('period.seq')
    .execute();
}

/** A removed peer without a key on the host is nothing to the reconciler, except while its removal is not yet recorded. */
function peerIds(serverId: number) {
  return sql<number>`(select id from peers where server_id = ${serverId}
      and (removed_at is null or applied_version < wanted_version)
    union select peer_id from host_peers where server_id = ${serverId} and gone_at is null)`;
}

function userIds(serverId: number) {
  return sql<number>`(select user_id from peers where id in ${peerIds(serverId)})`;
}

import { sql } from 'kysely';
import type { Queryable } from '../store.ts';
import { type HostPeerRow, listHostPeers } from './host-peers.ts';
import type { PeerRow } from './peers.ts';
import { findServer, type ServerRow } from './servers.ts';
import { executeWithDisputes, type PeriodWithDispute, periodsWithDisputes } from './subscription-periods.ts';
import type { UserRow } from './users.ts';

export type SnapshotUser = Pick<UserRow, 'id' | 'status' | 'removed_at'>;

/** The rows that what a host should hold follows from. */
export interface ServerSnapshot {
  readonly server: ServerRow;
  /** Owners of the peers on this server. */
  readonly users: readonly SnapshotUser[];
  /** Their periods, in order of user and `seq`. */
  readonly periods: readonly PeriodWithDispute[];
  /**
   * Their live peers on every server, since all count as devices, and the removed ones that this server may still have.
   * In order of id.
   */
  readonly peers: readonly PeerRow[];
  /** Every key ever tried on this server, those long gone too: an old backup of the host may bring one back. */
  readonly hostPeers: readonly HostPeerRow[];
}

/** Five queries, however many peers. Undefined when there is no such server. */
export async function snapshotForServer(q: Queryable, serverId: number): Promise<ServerSnapshot | undefined> {
  const server = await findServer(q, serverId);
  if (server === undefined) return undefined;
  return {
    server,
    users: await listOwners(q, serverId),
    periods: await listOwnersPeriods(q, serverId),
    peers: await listOwnersPeers(q, serverId),
    hostPeers: await listHostPeers(q, serverId),
  };
}

function listOwners(q: Queryable, serverId: number): Promise<SnapshotUser[]> {
  return q.kysely
    .selectFrom('users')
    .select(['id', 'status', 'removed_at'])
    .where('id', 'in', ownersOn(serverId))
    .orderBy('id')
    .execute();
}

function listOwnersPeriods(q: Queryable, serverId: number): Promise<PeriodWithDispute[]> {
  return executeWithDisputes(periodsWithDisputes(q).where('period.user_id', 'in', ownersOn(serverId)));
}

function listOwnersPeers(q: Queryable, serverId: number): Promise<PeerRow[]> {
  return q.kysely
    .selectFrom('peers')
    .selectAll()
    .where('user_id', 'in', ownersOn(serverId))
    .where((eb) =>
      eb.or([
        eb('removed_at', 'is', null),
        eb.and([eb('server_id', '=', serverId), eb('applied_state', '!=', 'absent')]),
      ]),
    )
    .orderBy('id')
    .execute();
}

function ownersOn(serverId: number) {
  return sql<number>`(select user_id from peers
    where server_id = ${serverId} and (removed_at is null or applied_state <> 'absent'))`;
}

import type { Insertable, Selectable } from 'kysely';
import type { HostPeers } from '../schema.generated.ts';
import type { Queryable } from '../store.ts';
import { chunks } from './page.ts';

/** A key that we tried to put on a host: what is in here is ours, everything else on the host is foreign. */
export type HostPeerRow = Selectable<HostPeers>;
export type NewHostPeer = Omit<Insertable<HostPeers>, 'id' | 'retired_at' | 'gone_at'>;

/**
 * Written and committed before the attempt. A tombstone of the same peer lives again. Undefined when the host still holds
 * the key for another peer: a key conflict.
 */
export function insertHostPeer(q: Queryable, hostPeer: NewHostPeer): Promise<HostPeerRow | undefined> {
  return q.kysely
    .insertInto('host_peers')
    .values(hostPeer)
    .onConflict((conflict) =>
      conflict
        .columns(['server_id', 'public_key'])
        .doUpdateSet((eb) => ({
          peer_id: eb.ref('excluded.peer_id'),
          address_index: eb.ref('excluded.address_index'),
          retired_at: null,
          gone_at: null,
        }))
        .where((eb) =>
          eb.or([eb('host_peers.peer_id', '=', eb.ref('excluded.peer_id')), eb('host_peers.gone_at', 'is not', null)]),
        ),
    )
    .returningAll()
    .executeTakeFirst();
}

/** Every key of ours that the host has or ever had, in order of id. */
export function listHostPeers(q: Queryable, serverId: number): Promise<HostPeerRow[]> {
  return q.kysely.selectFrom('host_peers').selectAll().where('server_id', '=', serverId).orderBy('id').execute();
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

/** The host confirmed that retired keys are gone; their addresses rest from `at`. A key that lives again stays. */
export async function markGone(q: Queryable, ids: readonly number[], at: string): Promise<number> {
  let gone = 0;
  for (const some of chunks(ids)) {
    const result = await q.kysely
      .updateTable('host_peers')
      .set({ gone_at: at })
      .where('id', 'in', some)
      .where('retired_at', 'is not', null)
      .where('gone_at', 'is', null)
      .executeTakeFirst();
    gone += Number(result.numUpdatedRows);
  }
  return gone;
}

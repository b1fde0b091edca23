import type { Selectable } from 'kysely';
import type { ForeignPeers } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { chunks } from './page.ts';

/** A peer on a host that is not ours: never touched, and its addresses are not given out. */
export type ForeignPeerRow = Selectable<ForeignPeers>;

export interface SeenForeignPeer {
  readonly public_key: string;
  readonly allowed_ips: string;
}

export interface Sighting {
  readonly serverId: number;
  /** Everything foreign that the host has now. */
  readonly peers: readonly SeenForeignPeer[];
  readonly at: string;
}

/** Remembers what a listing showed and forgets what it no longer shows. */
export async function replaceForeignPeers(tx: Tx, { serverId, peers, at }: Sighting): Promise<void> {
  for (const some of chunks(peers)) {
    const values = some.map((peer) => ({ ...peer, server_id: serverId, first_seen_at: at, last_seen_at: at }));
    await tx.kysely
      .insertInto('foreign_peers')
      .values(values)
      .onConflict((conflict) =>
        conflict.columns(['server_id', 'public_key']).doUpdateSet((eb) => ({
          allowed_ips: eb.ref('excluded.allowed_ips'),
          last_seen_at: eb.ref('excluded.last_seen_at'),
        })),
      )
      .execute();
  }
  await tx.kysely
    .deleteFrom('foreign_peers')
    .where('server_id', '=', serverId)
    .where('last_seen_at', '<', at)
    .execute();
}

export function listForeignPeers(q: Queryable, serverId: number): Promise<ForeignPeerRow[]> {
  return q.kysely
    .selectFrom('foreign_peers')
    .selectAll()
    .where('server_id', '=', serverId)
    .orderBy('public_key')
    .execute();
}

export function findForeignPeer(
  q: Queryable,
  serverId: number,
  publicKey: string,
): Promise<ForeignPeerRow | undefined> {
  return q.kysely
    .selectFrom('foreign_peers')
    .selectAll()
    .where('server_id', '=', serverId)
    .where('public_key', '=', publicKey)
    .executeTakeFirst();
}

/** It is ours from now on. */
export async function forgetForeignPeer(tx: Tx, serverId: number, publicKey: string): Promise<void> {
  await tx.kysely
    .deleteFrom('foreign_peers')
    .where('server_id', '=', serverId)
    .where('public_key', '=', publicKey)
    .execute();
}

import { countPeers, listPeers, lockPeer, lockUser, type PeerRow } from '@vpn-api/db';
import { DomainError, type ErrorCode, invalidField } from '../domain/errors.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import { type AuditSource, audit } from './audit.ts';
import { drainServer } from './drain-server.ts';
import { getServer } from './get-server.ts';
import { type MoveDeps, type MoveTarget, relocatePeer } from './move-peer.ts';

type Deps = MoveDeps;

export const EVACUATE_MAX = 1_000;
/** Whoever calls is answered long before he gives up waiting, however slow the database is. */
const PATIENCE_SECONDS = 15;
const PAGE = 100;

export interface EvacuateServer {
  readonly id: number;
  readonly source: AuditSource;
  readonly target: MoveTarget;
  /** Peers moved by this call at most. */
  readonly limit: number;
}

export interface Evacuation {
  readonly moved: number;
  /** Live peers that are still there. */
  readonly remaining: number;
  /** Why it ended before all were moved; null when it did not. */
  readonly stopped: Extract<ErrorCode, 'no_capacity'> | null;
}

/**
 * Moves live peers of a server elsewhere, oldest first, as many as a caller waits for, and drains it. The host is not asked.
 * Each peer is moved by itself, so whatever ends this, a repeat goes on with the rest.
 * @throws DomainError `server_not_found`, `server_retired`, `validation_failed`
 */
export async function evacuateServer(deps: Deps, { id, source, target, limit }: EvacuateServer): Promise<Evacuation> {
  if (target.serverId === id) throw invalidField('to_server_id', 'is the server itself');
  const server = await getServer(deps.store, id);
  if (server.draining_at === null) await drainServer(deps, { id, source });
  const { moved, stopped } = await moveAll(deps, { id, target, limit });
  const remaining = await countPeers(deps.store, { serverId: id });
  await deps.store.transaction((tx) =>
    audit(tx, {
      ...source,
      at: deps.clock.now(),
      action: 'server.evacuate',
      target: `server:${id}`,
      details: { moved, remaining, to_server_id: target.serverId ?? null, to_region: target.region ?? null },
    }),
  );
  return { moved, remaining, stopped };
}

async function moveAll(
  deps: Deps,
  { id, target, limit }: Pick<EvacuateServer, 'id' | 'target' | 'limit'>,
): Promise<Omit<Evacuation, 'remaining'>> {
  const until = addSeconds(deps.clock.now(), PATIENCE_SECONDS);
  let moved = 0;
  let afterId = 0;
  while (moved < limit && deps.clock.now() < until) {
    const page = { afterId, limit: Math.min(PAGE, limit - moved) };
    const peers = await listPeers(deps.store, { serverId: id }, page);
    if (peers.length === 0) return { moved, stopped: null };
    afterId = peers.at(-1)?.id ?? afterId;
    const { moved: more, stopped } = await movePage(deps, peers, { target, until });
    moved += more;
    if (stopped !== null) return { moved, stopped };
  }
  return { moved, stopped: null };
}

/** Hosts are woken once a page: a compare of a large one takes longer than many moves, and would be made after each. */
async function movePage(
  deps: Deps,
  peers: readonly PeerRow[],
  { target, until }: { readonly target: MoveTarget; readonly until: Instant },
): Promise<Omit<Evacuation, 'remaining'>> {
  const changed = new Set<number>();
  const reconciler = { wake: (ids: Iterable<number> = []) => [...ids].forEach((id) => void changed.add(id)) };
  let moved = 0;
  try {
    for (const peer of peers) {
      if (deps.clock.now() >= until) break;
      const outcome = await moveOne({ ...deps, reconciler }, peer, target);
      if (outcome === 'no_capacity') return { moved, stopped: outcome };
      if (outcome === 'moved') moved += 1;
    }
    return { moved, stopped: null };
  } finally {
    deps.reconciler.wake(changed);
  }
}

/** `gone`: its owner removed or moved it meanwhile. */
async function moveOne(
  deps: Deps,
  { id, server_id: serverId, user_id }: PeerRow,
  target: MoveTarget,
): Promise<'moved' | 'gone' | 'no_capacity'> {
  try {
    return await deps.store.transaction(async (tx) => {
      await lockUser(tx, user_id);
      const peer = await lockPeer(tx, id);
      if (peer === undefined || peer.removed_at !== null || peer.server_id !== serverId) return 'gone';
      await relocatePeer(deps, tx, peer, target);
      return 'moved';
    });
  } catch (error) {
    if (error instanceof DomainError && error.code === 'no_capacity') return 'no_capacity';
    throw error;
  }
}

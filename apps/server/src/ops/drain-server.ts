import { countPeers, forgiveRemovals, type ServerPatch, type ServerRow, type Tx, updateServer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { getLockedServer } from './get-server.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

export interface ServerRequest {
  readonly id: number;
  readonly source: AuditSource;
}

/** Takes no new peers from now on; those that are there stay. @throws DomainError `server_not_found` */
export function drainServer(deps: Deps, request: ServerRequest): Promise<ServerRow> {
  return changeServer(deps, request, {
    action: 'server.drain',
    change: async (_tx, { draining_at }, now) => ({ draining_at: draining_at ?? now }),
  });
}

/** @throws DomainError `server_not_found`, `server_retired` */
export function undrainServer(deps: Deps, request: ServerRequest): Promise<ServerRow> {
  return changeServer(deps, request, {
    action: 'server.undrain',
    change: async (_tx, { retired_at }) => {
      if (retired_at !== null) throw new DomainError('server_retired');
      return { draining_at: null };
    },
  });
}

/**
 * Gives up a host that will not answer again: nobody waits for its confirmations, and it is not asked any more. Its peers
 * must be elsewhere already.
 * @throws DomainError `server_not_found`, `server_has_peers`
 */
export function retireServer(deps: Deps, request: ServerRequest): Promise<ServerRow> {
  return changeServer(deps, request, {
    action: 'server.retire',
    change: async (tx, { id, retired_at, draining_at }, now) => {
      if ((await countPeers(tx, { serverId: id })) > 0) throw new DomainError('server_has_peers');
      await forgiveRemovals(tx, id, now);
      const owed = { pending_changes: 0, brake_reason: null, next_attempt_at: null };
      return { ...owed, retired_at: retired_at ?? now, draining_at: draining_at ?? now };
    },
  });
}

/**
 * The host is back. What it still has of ours is removed in its first pass, before anything is set; it goes on draining,
 * so that it takes new peers only when somebody says so.
 * @throws DomainError `server_not_found`
 */
export function unretireServer(deps: Deps, request: ServerRequest): Promise<ServerRow> {
  return changeServer(deps, request, {
    action: 'server.unretire',
    change: async () => ({ retired_at: null, last_seen_at: null, attempts: 0, next_attempt_at: null }),
  });
}

interface Change {
  readonly action: string;
  readonly change: (tx: Tx, server: ServerRow, now: Instant) => Promise<ServerPatch>;
}

/** Under the server's lock, so that no peer is placed there meanwhile. */
async function changeServer(
  { store, clock, reconciler }: Deps,
  { id, source }: ServerRequest,
  { action, change }: Change,
): Promise<ServerRow> {
  return store.transaction(async (tx) => {
    const now = clock.now();
    const server = await getLockedServer(tx, id);
    const changed = await updateServer(tx, id, await change(tx, server, now));
    await audit(tx, { ...source, at: now, action, target: `server:${id}` });
    tx.onCommit(() => reconciler.wake([id]));
    return changed;
  });
}

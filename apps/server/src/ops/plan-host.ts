import type { ServerRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { PeerWish } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import { asHostError, askHost } from './ask-host.ts';
import { getServer } from './get-server.ts';
import { planServer, type ServerPlan, wishesForServer } from './plan-server.ts';

export type PlanDeps = Pick<Services, 'store' | 'clock' | 'secretBox' | 'hosts' | 'installId'>;

/**
 * Lists a host now and answers what a pass would do to it.
 * @throws DomainError `server_not_found`, `server_retired`, `host_unreachable`, `host_refused`, `host_auth_failed`,
 * `host_interface_missing`, `host_bad_answer`
 */
export async function planHost(deps: PlanDeps, serverId: number): Promise<ServerPlan> {
  const server = await getServer(deps.store, serverId);
  if (server.retired_at !== null) throw new DomainError('server_retired');
  const observed = await listHost(deps, server);
  const { store, clock, installId } = deps;
  return planServer(deps, await wishesForServer(store, { serverId, installId, now: clock.now() }), observed);
}

async function listHost(deps: PlanDeps, server: ServerRow) {
  try {
    return await askHost(deps, server, (driver, signal) => driver.list(signal));
  } catch (error) {
    throw asHostError(error);
  }
}

/** What a change does to a peer, in the words of an operator. */
export type PlannedAction = 'add' | 'change' | 'suspend' | 'remove';

/** One change of a plan, without secrets. */
export interface PlannedChange {
  readonly action: PlannedAction;
  /** null for what is added to a host that makes the keys: it will be a new one. */
  readonly publicKey: string | null;
  readonly addresses: readonly string[];
  readonly tag: string | null;
  readonly peerId: number | null;
  readonly userId: number | null;
  /** Why the peer may or may not be on; null for one that nobody wants any more. */
  readonly reason: string | null;
}

/** The changes of a plan, in the order in which they would be made. */
export function plannedChanges({ wishes, observed, diff }: ServerPlan): PlannedChange[] {
  const onHost = new Set<string | null>(observed.map((peer) => peer.publicKey));
  const wished = wishes.desired.wishes;
  const byKey = new Map<string | null, PeerWish>(wished.map((wish) => [wish.publicKey ?? wish.tag, wish]));
  const byTag = new Map(wished.map((wish) => [wish.tag, wish]));
  const users = new Map(wishes.snapshot.peers.map((peer) => [peer.id, peer.user_id]));
  const takesKeys = wishes.server.driver !== 'wg-easy';
  return diff.changes.map((change) => {
    const wish = byKey.get(change.publicKey) ?? byTag.get(change.tag ?? '');
    const isKnown = change.publicKey !== null && onHost.has(change.publicKey);
    return {
      action: change.type === 'set' ? (isKnown ? 'change' : 'add') : change.type,
      publicKey: isKnown || takesKeys ? change.publicKey : null,
      addresses: change.type === 'set' ? change.addresses : [],
      tag: change.tag,
      peerId: wish?.peerId ?? null,
      userId: users.get(wish?.peerId ?? 0) ?? null,
      reason: wish?.reason ?? null,
    };
  });
}

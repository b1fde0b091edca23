import { type Queryable, type ServerRow, type ServerSnapshot, snapshotForServer } from '@vpn-api/db';
import type { ObservedPeer, PeerChange, PeerDiff, PresharedKey } from '@vpn-api/wg';
import { diffPeers } from '@vpn-api/wg/diff';
import {
  type AccessReason,
  type BrakeCounts,
  type DesiredState,
  desiredPeers,
  isScheduledSuspension,
  mustBrake,
  type PeerWish,
} from '../domain/peer.ts';
import type { Services } from '../services.ts';

/** What the rows want of one server, read in one go. */
export interface ServerWishes {
  readonly server: ServerRow;
  readonly snapshot: ServerSnapshot;
  readonly desired: DesiredState;
}

interface WishesQuery {
  readonly serverId: number;
  /** Goes into the names of peers on hosts that keep names. */
  readonly installId: string;
  readonly now: string;
}

/** @throws Error for a server that does not exist */
export async function wishesForServer(q: Queryable, { serverId, installId, now }: WishesQuery): Promise<ServerWishes> {
  const snapshot = await snapshotForServer(q, serverId);
  if (snapshot === undefined) throw new Error(`server ${serverId} has vanished`);
  return { server: snapshot.server, snapshot, desired: desiredPeers({ ...snapshot, installId }, now) };
}

/** What would have to change on the host for the wishes to come true. */
export interface ServerPlan {
  readonly wishes: ServerWishes;
  readonly observed: readonly ObservedPeer[];
  readonly diff: PeerDiff;
  /** Set when the plan must not be carried out without a person. */
  readonly brake: BrakeCounts | undefined;
}

export function planServer(
  { secretBox }: Pick<Services, 'secretBox'>,
  wishes: ServerWishes,
  observed: readonly ObservedPeer[],
): ServerPlan {
  const { desired, snapshot } = wishes;
  const sealed = new Map(snapshot.peers.map((peer) => [peer.id, peer.preshared_key_sealed]));
  const presharedKey = (wish: PeerWish): PresharedKey | null => {
    const text = sealed.get(wish.peerId) ?? null;
    if (text === null || wish.state !== 'present') return null;
    return secretBox.open({ column: 'peers.preshared_key', rowId: wish.peerId }, text) as PresharedKey;
  };
  const wanted = desired.wishes.map((wish) => ({ ...wish, presharedKey: presharedKey(wish) }));
  const diff = diffPeers({ desired: wanted, observed, ours: desired.ours, ourTags: desired.ourTags });
  const counts = brakeCounts(wishes, observed, diff);
  return { wishes, observed, diff, brake: mustBrake(counts) ? counts : undefined };
}

/**
 * Expiry takes peers away every day, and so do owners who remove a device or change its key. A mistake in our rows, or a
 * wrong database, takes many at once for no such reason.
 */
function brakeCounts(
  { desired, snapshot }: ServerWishes,
  observed: readonly ObservedPeer[],
  { changes }: PeerDiff,
): BrakeCounts {
  const reasons = new Map<string | null, AccessReason | null>(
    desired.wishes.map((wish) => [wish.publicKey, wish.reason]),
  );
  const retired = new Set<string>(
    snapshot.hostPeers.filter((row) => row.retired_at !== null).map((row) => row.public_key),
  );
  const isUnscheduled = ({ type, publicKey }: PeerChange) =>
    type !== 'set' && !isScheduledSuspension(reasons.get(publicKey) ?? null) && !retired.has(publicKey ?? '');
  return {
    unscheduled: changes.filter(isUnscheduled).length,
    present: observed.filter((peer) => peer.enabled && desired.ours.has(peer.publicKey)).length,
  };
}

/** The brake as its server's row says it; null when nothing waits for a person. */
export function brakeText(brake: BrakeCounts | undefined, held: 'planned' | 'braked' | undefined): string | null {
  if (brake === undefined || held === undefined) return null;
  const text = `would take ${brake.unscheduled} of ${brake.present} peers off the host`;
  return held === 'planned' ? `seen while observed: ${text}` : text;
}

/**
 * Whoever switches a server from `observe` to `apply` agrees to the plan that he was shown, and to no larger one. This is
 * how a person lets the brake go: observe, look, apply.
 */
export function isAgreed(brake: BrakeCounts, { brake_reason: shown }: Pick<ServerRow, 'brake_reason'>): boolean {
  const count = /^seen while observed: would take (\d+) /.exec(shown ?? '')?.[1];
  return count !== undefined && brake.unscheduled <= Number(count);
}

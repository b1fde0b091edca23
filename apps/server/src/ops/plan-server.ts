import { type Queryable, type ServerRow, type ServerSnapshot, snapshotForServer } from '@vpn-api/db';
import type { ObservedPeer, PeerDiff, PresharedKey } from '@vpn-api/wg';
import { diffPeers } from '@vpn-api/wg/diff';
import { type DesiredState, desiredPeers, isScheduledSuspension, mustBrake, type PeerWish } from '../domain/peer.ts';
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
  /** Why the plan must not be carried out without a person; undefined when it may. */
  readonly brake: string | undefined;
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
  return { wishes, observed, diff, brake: brakeReason(wishes, observed, diff) };
}

/**
 * Expiry takes peers away every day, and so does an owner who removes a device. A mistake in our rows, or a wrong
 * database, takes many at once for no such reason.
 */
function brakeReason({ desired, snapshot }: ServerWishes, observed: readonly ObservedPeer[], diff: PeerDiff) {
  const wishByKey = new Map(desired.wishes.map((wish) => [wish.publicKey, wish]));
  const retired = new Set(snapshot.hostPeers.filter((row) => row.retired_at !== null).map((row) => row.public_key));
  const unscheduled = diff.changes.filter((change) => {
    if (change.type === 'set') return false;
    const wish = wishByKey.get(change.publicKey);
    return !isScheduledSuspension(wish?.reason ?? null) && !retired.has(change.publicKey);
  }).length;
  const present = observed.filter((peer) => peer.enabled && desired.ours.has(peer.publicKey)).length;
  if (!mustBrake({ unscheduled, present })) return undefined;
  return `would take ${unscheduled} of ${present} peers off the host`;
}

import { listDevicesOfUsers, listPeriodsForUsers, listUsersByIds, type PeerRow, type Queryable } from '@vpn-api/db';
import { deviceRanks, type PeerAccess, type PeerState, peerAccess, peerState } from '../domain/peer.ts';
import { foldPeriods, type SubscriptionState, subscriptionAt } from '../domain/subscription.ts';

/** A peer with what time and its owner's payments make of it. */
export interface JudgedPeer {
  readonly peer: PeerRow;
  readonly access: PeerAccess;
  readonly state: PeerState;
  /** When the owner's access ends if nothing else happens; null for a lifetime or when there is none. */
  readonly expiresAt: string | null;
}

/** Judges peers of any number of users with three queries. */
export async function judgePeers(q: Queryable, peers: readonly PeerRow[], now: string): Promise<JudgedPeer[]> {
  if (peers.length === 0) return [];
  const userIds = [...new Set(peers.map((peer) => peer.user_id))];
  const users = new Map((await listUsersByIds(q, userIds)).map((user) => [user.id, user]));
  const periods = Map.groupBy(await listPeriodsForUsers(q, userIds), (period) => period.user_id);
  const ranks = deviceRanks(await listDevicesOfUsers(q, userIds));
  const subscriptions = new Map(
    userIds.map((userId) => [userId, subscriptionAt(foldPeriods(periods.get(userId) ?? []), now)]),
  );
  return peers.map((peer) => {
    const user = users.get(peer.user_id);
    const subscription = subscriptions.get(peer.user_id);
    if (user === undefined || subscription === undefined) throw new Error(`peer ${peer.id} has no owner`);
    const { deactivated_at } = peer;
    const access = peerAccess({ user, subscription, deactivated_at, rank: ranks.get(peer.id) ?? 0 });
    return { peer, access, state: peerState(peer, access), expiresAt: accessEnd(subscription) };
  });
}

export async function judgePeer(q: Queryable, peer: PeerRow, now: string): Promise<JudgedPeer> {
  const [judged] = await judgePeers(q, [peer], now);
  return judged as JudgedPeer;
}

function accessEnd({ status, access_until }: SubscriptionState): string | null {
  return status === 'active' || status === 'grace' ? access_until : null;
}

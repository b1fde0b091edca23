import {
  listDevicesOfUsers,
  listPeriodsWithDisputes,
  listUsersByIds,
  type PeerRow,
  type PeriodWithDispute,
  type Queryable,
  type UserRow,
} from '@vpn-api/db';
import {
  deviceRanks,
  type PeerAccess,
  type PeerState,
  peerAccess,
  peerState,
  periodRestrictions,
} from '../domain/peer.ts';
import { foldPeriods, type SubscriptionState, subscriptionAt } from '../domain/subscription.ts';

/** A peer with what time and its owner's payments make of it. */
export interface JudgedPeer {
  readonly peer: PeerRow;
  readonly access: PeerAccess;
  readonly state: PeerState;
  /** When the owner's access ends if nothing else happens; null for a lifetime or when there is none. */
  readonly expiresAt: string | null;
}

interface Owner {
  readonly user: UserRow;
  readonly subscription: SubscriptionState<PeriodWithDispute>;
}

/** Judges peers of any number of users with three queries. */
export async function judgePeers(q: Queryable, peers: readonly PeerRow[], now: string): Promise<JudgedPeer[]> {
  if (peers.length === 0) return [];
  const userIds = [...new Set(peers.map((peer) => peer.user_id))];
  const owners = await loadOwners(q, userIds, now);
  const ranks = deviceRanks(await listDevicesOfUsers(q, userIds));
  return peers.map((peer) => {
    const owner = owners.get(peer.user_id);
    if (owner === undefined) throw new Error(`peer ${peer.id} has no owner`);
    return judge(peer, owner, ranks.get(peer.id) ?? 0);
  });
}

export async function judgePeer(q: Queryable, peer: PeerRow, now: string): Promise<JudgedPeer> {
  const [judged] = await judgePeers(q, [peer], now);
  return judged as JudgedPeer;
}

async function loadOwners(q: Queryable, userIds: readonly number[], now: string): Promise<ReadonlyMap<number, Owner>> {
  const periods = Map.groupBy(await listPeriodsWithDisputes(q, userIds), (period) => period.user_id);
  const users = await listUsersByIds(q, userIds);
  return new Map(
    users.map((user) => [
      user.id,
      { user, subscription: subscriptionAt(foldPeriods(periods.get(user.id) ?? []), now) },
    ]),
  );
}

function judge(peer: PeerRow, { user, subscription }: Owner, rank: number): JudgedPeer {
  const restrictions = periodRestrictions(subscription.current);
  const access = peerAccess({ user, subscription, ...restrictions, deactivated_at: peer.deactivated_at, rank });
  return { peer, access, state: peerState(peer, access), expiresAt: accessEnd(subscription) };
}

function accessEnd({ status, access_until }: SubscriptionState): string | null {
  return status === 'active' || status === 'grace' ? access_until : null;
}

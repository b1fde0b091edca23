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

export interface OneMoreDevice {
  readonly userId: number;
  /** How many devices of the user are older. */
  readonly rank: number;
  readonly now: string;
}

/** What a device that a user does not have yet would be allowed. */
export async function judgeOneMore(q: Queryable, { userId, rank, now }: OneMoreDevice): Promise<PeerAccess> {
  const owner = (await loadOwners(q, [userId], now)).get(userId);
  if (owner === undefined) throw new Error(`there is no user ${userId}`);
  return accessOf(owner, { rank, deactivated_at: null });
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

function judge(peer: PeerRow, owner: Owner, rank: number): JudgedPeer {
  const access = accessOf(owner, { rank, deactivated_at: peer.deactivated_at });
  return { peer, access, state: peerState(peer, access), expiresAt: accessEnd(owner.subscription) };
}

function accessOf(
  { user, subscription }: Owner,
  device: { readonly rank: number; readonly deactivated_at: string | null },
): PeerAccess {
  return peerAccess({ user, subscription, ...periodRestrictions(subscription.current), ...device });
}

function accessEnd({ status, access_until }: SubscriptionState): string | null {
  return status === 'active' || status === 'grace' ? access_until : null;
}

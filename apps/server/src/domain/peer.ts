import { parseSingleHost } from '@vpn-api/wg/address';
import type { DesiredPeer } from '@vpn-api/wg/diff';
import { type Instant, minInstant } from './instant.ts';
import {
  type FoldedPeriod,
  foldPeriods,
  nextChangeAt,
  type PeriodFacts,
  type SubscriptionState,
  subscriptionAt,
} from './subscription.ts';
import { isQuotaExceeded, type QuotaFacts } from './traffic.ts';

export type AccessReason =
  | 'active'
  | 'grace'
  | 'expired'
  | 'no_subscription'
  | 'blocked'
  | 'deactivated'
  | 'quota_exceeded'
  | 'device_limit_exceeded';

export interface PeerAccess {
  readonly allowed: boolean;
  readonly reason: AccessReason;
}

export interface AccessFacts {
  readonly user: { readonly status: 'pending' | 'active' | 'blocked'; readonly removed_at: string | null };
  readonly subscription: Pick<SubscriptionState, 'status' | 'current'>;
  readonly deactivated_at: string | null;
  /** Place among the user's devices, 0 is the oldest; see `deviceRanks`. */
  readonly rank: number;
  /** A dispute on the payment of the current period suspends without touching the period. */
  readonly disputed?: boolean;
  readonly quotaExceeded?: boolean;
}

/** Whether a peer may be on its host, and the first reason that decides it. */
export function peerAccess(facts: AccessFacts): PeerAccess {
  const { user, subscription } = facts;
  if (user.status === 'blocked' || user.removed_at !== null || facts.disputed === true) return denied('blocked');
  if (facts.deactivated_at !== null) return denied('deactivated');
  if (subscription.status === 'expired') return denied('expired');
  if (subscription.status !== 'active' && subscription.status !== 'grace') return denied('no_subscription');
  if (facts.rank >= (subscription.current?.device_limit ?? 0)) return denied('device_limit_exceeded');
  if (facts.quotaExceeded === true) return denied('quota_exceeded');
  return { allowed: true, reason: subscription.status };
}

/** What the period in force takes away while it lasts. */
export function periodRestrictions(
  current: (QuotaFacts & { readonly disputed_at?: string | null }) | undefined,
): Required<Pick<AccessFacts, 'disputed' | 'quotaExceeded'>> {
  return {
    disputed: (current?.disputed_at ?? null) !== null,
    quotaExceeded: current !== undefined && isQuotaExceeded(current),
  };
}

function denied(reason: AccessReason): PeerAccess {
  return { allowed: false, reason };
}

/** A peer as far as counting devices goes. */
export interface DeviceFacts {
  readonly id: number;
  readonly user_id: number;
  readonly created_at: string;
  readonly removed_at: string | null;
}

/**
 * The place of each device among its user's, by peer id: 0 is the oldest. Deactivated ones count, those being removed do
 * not. Needs all peers of the users, on whichever server they are.
 */
export function deviceRanks(peers: readonly DeviceFacts[]): ReadonlyMap<number, number> {
  const ranks = new Map<number, number>();
  for (const devices of Map.groupBy(peers, (peer) => peer.user_id).values()) {
    devices
      .filter((peer) => peer.removed_at === null)
      .toSorted((a, b) => compareText(a.created_at, b.created_at) || a.id - b.id)
      .forEach((peer, rank) => void ranks.set(peer.id, rank));
  }
  return ranks;
}

/** How many devices of one user count against the limit. */
export function countDevices(peers: readonly Pick<DeviceFacts, 'removed_at'>[]): number {
  return peers.filter((peer) => peer.removed_at === null).length;
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

export type PeerState = 'pending' | 'active' | 'suspended' | 'removing' | 'failed';

export interface AppliedFacts {
  readonly removed_at: string | null;
  readonly wanted_version: number;
  readonly applied_version: number;
  readonly applied_state: 'none' | 'present' | 'suspended' | 'absent';
  /** What the host said about this very peer. A host that is down is recorded with the server, not here. */
  readonly last_error: string | null;
}

/** What is true on the host: `pending` until it is as wanted, `failed` when the host refused this peer. */
export function peerState(peer: AppliedFacts, access: Pick<PeerAccess, 'allowed'>): PeerState {
  if (peer.removed_at !== null) return 'removing';
  if (isApplied(peer, access.allowed)) return access.allowed ? 'active' : 'suspended';
  return peer.last_error === null ? 'pending' : 'failed';
}

/** A suspended peer needs no newer version on the host: whatever is there is switched off. */
function isApplied(peer: AppliedFacts, allowed: boolean): boolean {
  const isPresent = peer.applied_state === 'present';
  return allowed ? isPresent && peer.applied_version === peer.wanted_version : !isPresent;
}

export interface SnapshotUser {
  readonly id: number;
  readonly status: 'pending' | 'active' | 'blocked';
  readonly removed_at: string | null;
}

export interface SnapshotPeer extends DeviceFacts {
  readonly server_id: number;
  readonly public_key: string | null;
  readonly wg_ip: string | null;
  readonly wg_ip6: string | null;
  readonly deactivated_at: string | null;
}

export interface SnapshotPeriod extends PeriodFacts {
  readonly user_id: number;
  /** Traffic of all the user's peers, on whichever server, while this was the period in force. */
  readonly used_bytes: number;
  /** From the payment that the period came from, if any. */
  readonly disputed_at?: string | null;
}

export interface SnapshotHostPeer {
  readonly id: number;
  readonly server_id: number;
  readonly public_key: string;
  readonly peer_id: number;
  readonly retired_at: string | null;
}

/** What the wishes for one server follow from, read in one go. */
export interface DesiredSnapshot {
  readonly server: { readonly id: number; readonly public_key: string | null; readonly keys: 'given' | 'reported' };
  /** Goes into the names of peers; different in each installation, so that two can share a host. */
  readonly installId: string;
  readonly users: readonly SnapshotUser[];
  readonly periods: readonly SnapshotPeriod[];
  /** All peers of those users, those on other servers too: they count as devices. */
  readonly peers: readonly SnapshotPeer[];
  /** Every key ever tried on this server, gone ones too: one that comes back with an old backup is removed again. */
  readonly hostPeers: readonly SnapshotHostPeer[];
}

/** A wish for the host, still without its preshared key, which only the caller can unseal. */
export interface PeerWish extends Omit<DesiredPeer, 'presharedKey'> {
  readonly peerId: number;
  /** Of a wish for a live peer; null for a tombstone. */
  readonly reason: AccessReason | null;
}

export interface DesiredState {
  readonly wishes: readonly PeerWish[];
  /** For the diff: keys we tried here before this pass. A wished key that is not among them may be foreign. */
  readonly ours: ReadonlySet<NonNullable<DesiredPeer['publicKey']>>;
  /** For the diff: names under which a host that makes the keys may have made a peer we know no key of. */
  readonly ourTags: ReadonlySet<string>;
  /** Live peers that cannot be wished for: no address or no key where we choose them, or the server's own key. */
  readonly unready: readonly number[];
  /** The next moment at which time alone changes the wishes. */
  readonly nextChangeAt: Instant | null;
}

/** What should be on one server at `now`: a pure function of the rows. */
export function desiredPeers(snapshot: DesiredSnapshot, now: string): DesiredState {
  const users = userStates(snapshot, now);
  const generations = keyGenerations(snapshot);
  const tagOf = (peerId: number) => peerTag(snapshot.installId, peerId, generations.get(peerId) ?? 0);
  const { wishes, unready } = liveWishes(snapshot, users, tagOf);
  const leaving = [...tombstones(snapshot, wishes), ...removedKeyless(snapshot, tagOf)];
  const all = [...wishes, ...leaving];
  return {
    wishes: all,
    ours: new Set(
      snapshot.hostPeers
        .filter((row) => row.server_id === snapshot.server.id)
        .map((row) => asPublicKey(row.public_key)),
    ),
    ourTags: new Set(all.filter((wish) => wish.publicKey === null).map((wish) => wish.tag)),
    unready,
    nextChangeAt: earliest(livePeersOf(snapshot).map((peer) => users.get(peer.user_id)?.nextChangeAt ?? null)),
  };
}

function liveWishes(
  snapshot: DesiredSnapshot,
  users: ReadonlyMap<number, UserState>,
  tagOf: (peerId: number) => string,
): { readonly wishes: PeerWish[]; readonly unready: number[] } {
  const ranks = deviceRanks(snapshot.peers);
  const wishes: PeerWish[] = [];
  const unready: number[] = [];
  for (const peer of livePeersOf(snapshot)) {
    const user = users.get(peer.user_id);
    if (user === undefined || user.removed_at !== null) continue;
    const { subscription, disputed, quotaExceeded } = user;
    const { deactivated_at } = peer;
    const rank = ranks.get(peer.id) ?? 0;
    const access = peerAccess({ user, subscription, disputed, quotaExceeded, deactivated_at, rank });
    const wish = wishFor(peer, snapshot.server, { tag: tagOf(peer.id), access });
    if (wish === undefined) unready.push(peer.id);
    else wishes.push(wish);
  }
  return { wishes, unready };
}

interface UserState extends SnapshotUser {
  readonly subscription: SubscriptionState<SnapshotPeriod>;
  readonly disputed: boolean;
  readonly quotaExceeded: boolean;
  readonly nextChangeAt: Instant | null;
}

function userStates(snapshot: DesiredSnapshot, now: string): ReadonlyMap<number, UserState> {
  const periods = Map.groupBy(snapshot.periods, (period) => period.user_id);
  return new Map(
    snapshot.users.map((user) => {
      const folded: FoldedPeriod<SnapshotPeriod>[] = foldPeriods(periods.get(user.id) ?? []);
      const subscription = subscriptionAt(folded, now);
      const state: UserState = {
        ...user,
        subscription,
        ...periodRestrictions(subscription.current),
        nextChangeAt: nextChangeAt(folded, now),
      };
      return [user.id, state];
    }),
  );
}

function livePeersOf({ server, peers }: DesiredSnapshot): SnapshotPeer[] {
  return peers.filter((peer) => peer.server_id === server.id && peer.removed_at === null);
}

/**
 * How many other keys of each peer this server has seen. It counts up with every rotation and stays the same from the
 * request for a key to its record, so a peer that the host made before a crash is found again by its name.
 */
function keyGenerations({ server, peers, hostPeers }: DesiredSnapshot): ReadonlyMap<number, number> {
  const keys = new Map(peers.map((peer) => [peer.id, peer.public_key]));
  const generations = new Map<number, number>();
  for (const row of hostPeers) {
    if (row.server_id !== server.id || keys.get(row.peer_id) === row.public_key) continue;
    generations.set(row.peer_id, (generations.get(row.peer_id) ?? 0) + 1);
  }
  return generations;
}

/** The name of a peer on hosts that keep names. Plain ASCII, nothing a user typed. */
export function peerTag(installId: string, peerId: number, generation: number): string {
  return `${installId}-${peerId}-${generation}`;
}

function wishFor(
  peer: SnapshotPeer,
  server: DesiredSnapshot['server'],
  { tag, access }: { readonly tag: string; readonly access: PeerAccess },
): PeerWish | undefined {
  if (peer.public_key !== null && peer.public_key === server.public_key) return undefined;
  const addresses = ownAddresses(peer);
  if (addresses === undefined) return undefined;
  if (server.keys === 'given' && (peer.public_key === null || addresses.length === 0)) return undefined;
  return {
    tag,
    state: access.allowed ? 'present' : 'suspended',
    publicKey: peer.public_key === null ? null : asPublicKey(peer.public_key),
    addresses,
    peerId: peer.id,
    reason: access.reason,
  };
}

/** Exactly the peer's own hosts, never a route: anything wider would take the traffic of others. */
function ownAddresses(peer: SnapshotPeer): string[] | undefined {
  const texts = [peer.wg_ip, peer.wg_ip6].filter((text) => text !== null);
  return texts.every(isSingleHostText) ? texts : undefined;
}

function isSingleHostText(text: string): boolean {
  try {
    parseSingleHost(text);
    return true;
  } catch {
    return false;
  }
}

/** Every key of ours on this server that no live wish has: rotated, moved and removed peers. */
function tombstones({ server, hostPeers }: DesiredSnapshot, wishes: readonly PeerWish[]): PeerWish[] {
  const wished = new Set<string | null>(wishes.map((wish) => wish.publicKey));
  return hostPeers
    .filter((row) => row.server_id === server.id && !wished.has(row.public_key))
    .map((row) => absent(`gone-${row.id}`, row.peer_id, asPublicKey(row.public_key)));
}

/** Removed before the host told us the key it made: only the name can find such a peer. */
function removedKeyless({ server, peers }: DesiredSnapshot, tagOf: (peerId: number) => string): PeerWish[] {
  if (server.keys === 'given') return [];
  return peers
    .filter((peer) => peer.server_id === server.id && peer.removed_at !== null && peer.public_key === null)
    .map((peer) => absent(tagOf(peer.id), peer.id, null));
}

function absent(tag: string, peerId: number, publicKey: PeerWish['publicKey']): PeerWish {
  return { tag, state: 'absent', publicKey, addresses: [], peerId, reason: null };
}

function asPublicKey(text: string): NonNullable<DesiredPeer['publicKey']> {
  return text as NonNullable<DesiredPeer['publicKey']>;
}

function earliest(moments: readonly (Instant | null)[]): Instant | null {
  return moments.reduce((a, b) => (a === null || b === null ? (a ?? b) : minInstant(a, b)), null);
}

/** What a pass would do to peers that are on a host now. */
export interface BrakeCounts {
  /** Removals and suspensions of peers that are on, apart from those whose paid time ran out on schedule. */
  readonly unscheduled: number;
  /** Peers of ours that are on the host now. */
  readonly present: number;
}

/** A pass may always take this many; below it a percentage says nothing. */
export const BRAKE_MINIMUM = 10;
const BRAKE_PERCENT = 20;

/** True when a pass must stop and ask: it would take more than max(10, 20 %) of the peers for no scheduled reason. */
export function mustBrake({ unscheduled, present }: BrakeCounts): boolean {
  return unscheduled > BRAKE_MINIMUM && unscheduled * 100 > present * BRAKE_PERCENT;
}

/** Time alone, or their own traffic, suspends these: it happens every day and never sets off the brake. */
export function isScheduledSuspension(reason: AccessReason | null): boolean {
  return reason === 'expired' || reason === 'quota_exceeded';
}

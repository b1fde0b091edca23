import { type Cidr, cidrOverlaps, isSingleHost, parseHostCidr, printCidr } from './address.ts';
import type { ObservedPeer, PeerChange, RemovePeer, SetPeer, SuspendPeer } from './driver.ts';
import type { PresharedKey, PublicKey } from './keys.ts';

/** What should be true on one host for one peer. */
export interface DesiredPeer {
  /** Unique for the peer; see {@link SetPeer.tag}. */
  readonly tag: string;
  /** `absent` is a tombstone: it stays in the list until the host confirms that the peer is gone. */
  readonly state: 'present' | 'suspended' | 'absent';
  /** null: the host makes the keys and has not reported them yet. */
  readonly publicKey: PublicKey | null;
  readonly presharedKey: PresharedKey | null;
  /** Single hosts, `10.8.0.14/32`, as `printCidr` writes them. Empty: the host chooses, nothing is compared. */
  readonly addresses: readonly string[];
}

export interface DiffInput {
  readonly desired: readonly DesiredPeer[];
  readonly observed: readonly ObservedPeer[];
  /** Every key we ever tried to put on this host, tombstones included. Everything else there is foreign. */
  readonly ours: ReadonlySet<PublicKey>;
  /** Names we gave on a host that makes the keys: a peer called so is ours before we learn its key. */
  readonly ourTags?: ReadonlySet<string>;
}

/** A wish that would take something from somebody else. It is left alone until the wish changes. */
export interface DiffConflict {
  /** `key_conflict`: a foreign peer has the key. `address_conflict`: another peer has, or wants, the address. */
  readonly kind: 'key_conflict' | 'address_conflict';
  readonly tag: string;
  readonly publicKey: PublicKey | null;
  /** Of an address conflict. */
  readonly address?: string;
  /** Who has it; null when it is a peer whose key is not known yet. */
  readonly heldBy: PublicKey | null;
}

export interface PeerDiff {
  /**
   * In the order to apply: first everything that leaves, then everything that is set, so that no `set` ever takes an
   * address from a peer that still has it. Only when peers exchange addresses in a ring does a key appear twice: one
   * of them is removed first and set again.
   */
  readonly changes: readonly PeerChange[];
  /** Desired peers for which nothing is to do. */
  readonly unchanged: number;
  readonly foreign: readonly ObservedPeer[];
  readonly conflicts: readonly DiffConflict[];
}

/**
 * The difference between what should be on a host and what is, as changes for `WgDriver.apply`. Pure. Applying them
 * and listing again gives a diff without changes. Foreign peers are never touched, and neither are their addresses.
 */
export function diffPeers(input: DiffInput): PeerDiff {
  const host = indexHost(input);
  const claims = claimWishes(input.desired);
  const plans = claims.peers.map((peer) => planPeer(peer, host, claims.addressOwners));
  const leaving = [
    ...plans.flatMap((plan) => (plan.kind === 'leave' ? [plan.change] : [])),
    ...unwanted(host, claims, plans),
  ];
  const planned = plans.filter((plan) => plan.kind === 'set');
  const { sets, conflicts } = withoutTakeovers(planned, host, new Set(leaving.map(({ publicKey }) => publicKey)));
  return {
    changes: [...leaving, ...orderSets(sets)],
    unchanged: plans.filter((plan) => plan.kind === 'unchanged').length,
    foreign: host.foreign,
    conflicts: [
      ...claims.conflicts,
      ...plans.flatMap((plan) => (plan.kind === 'conflict' ? [plan.conflict] : [])),
      ...conflicts,
    ],
  };
}

/** Ours on the host that no wish names. */
function unwanted(host: Host, claims: Claims, plans: readonly PeerPlan[]): RemovePeer[] {
  const wanted = new Set<PublicKey | null>(claims.refusedKeys);
  for (const peer of claims.peers) wanted.add(peer.publicKey);
  for (const plan of plans) wanted.add(plan.observed?.publicKey ?? null);
  return [...host.ours.values()]
    .filter((peer) => !wanted.has(peer.publicKey))
    .map((peer) => ({ type: 'remove', publicKey: peer.publicKey, tag: peer.tag ?? null }));
}

interface Host {
  readonly ours: ReadonlyMap<PublicKey, ObservedPeer>;
  readonly oursByTag: ReadonlyMap<string, ObservedPeer>;
  readonly foreign: readonly ObservedPeer[];
  readonly foreignKeys: ReadonlySet<PublicKey>;
  readonly foreignHosts: ReadonlyMap<string, PublicKey>;
  readonly foreignRanges: readonly { readonly cidr: Cidr; readonly publicKey: PublicKey }[];
}

function indexHost({ observed, ours, ourTags }: DiffInput): Host {
  const isOurs = (peer: ObservedPeer) =>
    ours.has(peer.publicKey) || (peer.tag !== undefined && ourTags?.has(peer.tag) === true);
  const mine = observed.filter(isOurs);
  const foreign = observed.filter((peer) => !isOurs(peer));
  const held = foreign.flatMap((peer) =>
    readCidrs(peer.allowedIps).map((cidr) => ({ cidr, publicKey: peer.publicKey })),
  );
  return {
    ours: new Map(mine.map((peer) => [peer.publicKey, peer])),
    oursByTag: new Map(mine.flatMap((peer) => (peer.tag === undefined ? [] : [[peer.tag, peer] as const]))),
    foreign,
    foreignKeys: new Set(foreign.map((peer) => peer.publicKey)),
    foreignHosts: new Map(
      held.filter(({ cidr }) => isSingleHost(cidr)).map(({ cidr, publicKey }) => [printCidr(cidr), publicKey]),
    ),
    // A default route is not a claim on any one address: a single host inside it takes nothing that was promised.
    foreignRanges: held.filter(({ cidr }) => !isSingleHost(cidr) && cidr.prefix > 0),
  };
}

interface Claims {
  readonly peers: readonly DesiredPeer[];
  readonly addressOwners: ReadonlyMap<string, DesiredPeer>;
  /** Keys of wishes that lost against another wish: they are not removed from the host because of it. */
  readonly refusedKeys: readonly PublicKey[];
  readonly conflicts: readonly DiffConflict[];
}

/** Two wishes for one key or one address cannot both come true: the first one in the list has it. */
function claimWishes(desired: readonly DesiredPeer[]): Claims {
  const living = desired.filter((peer) => peer.state !== 'absent');
  const keyOwners = new Map<PublicKey, DesiredPeer>();
  const addressOwners = new Map<string, DesiredPeer>();
  const peers: DesiredPeer[] = [];
  const refusedKeys: PublicKey[] = [];
  const conflicts: DiffConflict[] = [];
  for (const peer of living) {
    const conflict = claimConflict(peer, keyOwners, addressOwners);
    if (conflict !== null) {
      conflicts.push(conflict);
      if (peer.publicKey !== null) refusedKeys.push(peer.publicKey);
      continue;
    }
    if (peer.publicKey !== null) keyOwners.set(peer.publicKey, peer);
    for (const address of peer.addresses) addressOwners.set(address, peer);
    peers.push(peer);
  }
  const tombstones = desired.filter(
    (peer) => peer.state === 'absent' && (peer.publicKey === null || !keyOwners.has(peer.publicKey)),
  );
  return { peers: [...peers, ...tombstones], addressOwners, refusedKeys, conflicts };
}

function claimConflict(
  peer: DesiredPeer,
  keyOwners: ReadonlyMap<PublicKey, DesiredPeer>,
  addressOwners: ReadonlyMap<string, DesiredPeer>,
): DiffConflict | null {
  if (peer.publicKey !== null && keyOwners.has(peer.publicKey)) {
    return { kind: 'key_conflict', tag: peer.tag, publicKey: peer.publicKey, heldBy: peer.publicKey };
  }
  for (const address of peer.addresses) {
    const owner = addressOwners.get(address);
    if (owner !== undefined) return addressConflict(peer, address, owner.publicKey);
  }
  return null;
}

interface SetPlan {
  readonly kind: 'set';
  readonly peer: DesiredPeer;
  readonly observed: ObservedPeer | undefined;
  readonly change: SetPeer;
}

type PeerPlan =
  | SetPlan
  | { readonly kind: 'unchanged'; readonly observed?: ObservedPeer }
  | { readonly kind: 'conflict'; readonly observed?: ObservedPeer; readonly conflict: DiffConflict }
  | { readonly kind: 'leave'; readonly observed: ObservedPeer; readonly change: SuspendPeer | RemovePeer };

function planPeer(peer: DesiredPeer, host: Host, addressOwners: ReadonlyMap<string, DesiredPeer>): PeerPlan {
  const observed = peer.publicKey === null ? host.oursByTag.get(peer.tag) : host.ours.get(peer.publicKey);
  if (peer.state === 'present') return planPresent(peer, observed, host);
  if (observed === undefined) return { kind: 'unchanged' };
  const { publicKey } = observed;
  if (peer.state === 'absent') {
    return { kind: 'leave', observed, change: { type: 'remove', publicKey, tag: peer.tag } };
  }
  if (sitsOnPromisedAddress(peer, observed, addressOwners)) {
    return { kind: 'leave', observed, change: { type: 'remove', publicKey, tag: peer.tag } };
  }
  if (!observed.enabled) return { kind: 'unchanged', observed };
  return { kind: 'leave', observed, change: { type: 'suspend', publicKey, tag: peer.tag } };
}

function planPresent(peer: DesiredPeer, observed: ObservedPeer | undefined, host: Host): PeerPlan {
  if (peer.publicKey !== null && host.foreignKeys.has(peer.publicKey)) {
    const { tag, publicKey } = peer;
    return { kind: 'conflict', conflict: { kind: 'key_conflict', tag, publicKey, heldBy: publicKey } };
  }
  if (observed !== undefined && isAsDesired(peer, observed)) return { kind: 'unchanged', observed };
  const conflict = foreignAddressConflict(peer, observed, host);
  if (conflict !== null) return { kind: 'conflict', conflict, ...(observed && { observed }) };
  const { tag, publicKey, presharedKey, addresses } = peer;
  return { kind: 'set', peer, observed, change: { type: 'set', tag, publicKey, presharedKey, addresses } };
}

/** A disabled peer keeps its old address on hosts that only disable. If another peer is to have it, it must go. */
function sitsOnPromisedAddress(
  peer: DesiredPeer,
  observed: ObservedPeer,
  addressOwners: ReadonlyMap<string, DesiredPeer>,
): boolean {
  return observed.allowedIps.some((address) => {
    const owner = addressOwners.get(address);
    return owner !== undefined && owner !== peer;
  });
}

function isAsDesired(peer: DesiredPeer, observed: ObservedPeer): boolean {
  // Without a key there is something to learn: a `set` makes the host report it.
  if (peer.publicKey === null || !observed.enabled) return false;
  const { presharedKey } = observed;
  if (presharedKey !== undefined && presharedKey !== peer.presharedKey) return false;
  return peer.addresses.length === 0 || sameAddresses(peer.addresses, observed.allowedIps);
}

function sameAddresses(desired: readonly string[], observed: readonly string[]): boolean {
  if (desired.length !== observed.length) return false;
  const have = new Set(observed);
  return desired.every((address) => have.has(address));
}

function foreignAddressConflict(
  peer: DesiredPeer,
  observed: ObservedPeer | undefined,
  host: Host,
): DiffConflict | null {
  const have = new Set(observed?.allowedIps);
  for (const address of peer.addresses.filter((wanted) => !have.has(wanted))) {
    const holder = foreignHolder(address, host);
    if (holder !== undefined) return addressConflict(peer, address, holder);
  }
  return null;
}

function foreignHolder(address: string, host: Host): PublicKey | undefined {
  const exact = host.foreignHosts.get(address);
  if (exact !== undefined || host.foreignRanges.length === 0) return exact;
  const wanted = parseHostCidr(address);
  return host.foreignRanges.find(({ cidr }) => cidrOverlaps(cidr, wanted))?.publicKey;
}

function addressConflict(peer: DesiredPeer, address: string, heldBy: PublicKey | null): DiffConflict {
  return { kind: 'address_conflict', tag: peer.tag, publicKey: peer.publicKey, address, heldBy };
}

/**
 * Drops every set whose address is held by a peer of ours that keeps it, because its own wish is in conflict or leaves
 * the choice to the host. A dropped peer keeps its old address too, hence the repetition.
 */
function withoutTakeovers(
  planned: readonly SetPlan[],
  host: Host,
  leaving: ReadonlySet<PublicKey>,
): { readonly sets: readonly SetPlan[]; readonly conflicts: readonly DiffConflict[] } {
  const conflicts: DiffConflict[] = [];
  let sets = planned;
  for (;;) {
    const moving = new Set(
      sets.flatMap((set) => (set.observed && set.peer.addresses.length > 0 ? [set.observed] : [])),
    );
    const kept = new Map<string, PublicKey>();
    for (const peer of host.ours.values()) {
      if (leaving.has(peer.publicKey) || moving.has(peer)) continue;
      for (const address of peer.allowedIps) kept.set(address, peer.publicKey);
    }
    const taken = (set: SetPlan) => set.peer.addresses.find((address) => kept.has(address));
    const refused = sets.filter((set) => taken(set) !== undefined);
    if (refused.length === 0) return { sets, conflicts };
    for (const set of refused) {
      const address = taken(set) as string;
      conflicts.push(addressConflict(set.peer, address, kept.get(address) ?? null));
    }
    sets = sets.filter((set) => taken(set) === undefined);
  }
}

/**
 * Puts a peer that gives up an address before the one that gets it. WireGuard would move the address without a word
 * and leave the old holder without any, for good if the rest of the batch fails. A ring is opened by a removal.
 */
function orderSets(sets: readonly SetPlan[]): readonly PeerChange[] {
  const givers = giversOf(sets);
  if (givers.size === 0) return sets.map(({ change }) => change);
  const openings: RemovePeer[] = [];
  const ordered: SetPeer[] = [];
  const freed = new Set<SetPlan>();
  let waiting = sets;
  while (waiting.length > 0) {
    const ready: SetPlan[] = [];
    const blocked: SetPlan[] = [];
    for (const set of waiting) {
      if ([...(givers.get(set) ?? [])].every((giver) => freed.has(giver))) {
        ready.push(set);
        freed.add(set);
      } else blocked.push(set);
    }
    ordered.push(...ready.map(({ change }) => change));
    if (ready.length === 0) openings.push(openRing(blocked, givers, freed));
    waiting = blocked;
  }
  return [...openings, ...ordered];
}

function giversOf(sets: readonly SetPlan[]): ReadonlyMap<SetPlan, ReadonlySet<SetPlan>> {
  const holders = new Map<string, SetPlan>();
  for (const set of sets) {
    for (const address of set.observed?.allowedIps ?? []) holders.set(address, set);
  }
  const givers = new Map<SetPlan, Set<SetPlan>>();
  for (const set of sets) {
    const from = set.change.addresses.map((address) => holders.get(address));
    const others = from.filter((holder): holder is SetPlan => holder !== undefined && holder !== set);
    if (others.length > 0) givers.set(set, new Set(others));
  }
  return givers;
}

/** Every blocked set waits for another blocked one, so following the givers ends in a ring. One of it is removed. */
function openRing(
  blocked: readonly SetPlan[],
  givers: ReadonlyMap<SetPlan, ReadonlySet<SetPlan>>,
  freed: Set<SetPlan>,
): RemovePeer {
  const seen = new Set<SetPlan>();
  let at = blocked[0] as SetPlan;
  while (!seen.has(at)) {
    seen.add(at);
    at = [...(givers.get(at) ?? [])].find((giver) => !freed.has(giver)) as SetPlan;
  }
  freed.add(at);
  const { publicKey, tag } = at.observed as ObservedPeer;
  return { type: 'remove', publicKey, tag: tag ?? at.change.tag };
}

function readCidrs(texts: readonly string[]): Cidr[] {
  return texts.flatMap((text) => {
    try {
      return [parseHostCidr(text)];
    } catch {
      return [];
    }
  });
}

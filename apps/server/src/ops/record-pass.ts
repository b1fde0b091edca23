import {
  type Applied,
  type Failed,
  holdsLease,
  type Lease,
  markGone,
  type PeerRow,
  type PeerTraffic,
  recordApplied,
  recordFailed,
  recordServerSeen,
  recordTraffic,
  replaceForeignPeers,
} from '@vpn-api/db';
import type { ChangeResult, ObservedPeer } from '@vpn-api/wg';
import { backoffSeconds } from '../domain/backoff.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { PeerWish } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import { brakeText, type ServerPlan } from './plan-server.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'random'>;

/** What came of a plan. */
export interface PassOutcome {
  readonly plan: ServerPlan;
  /** One for each change that was made. */
  readonly results: readonly ChangeResult[];
  /** Why no change was made; undefined when they were. */
  readonly held: 'planned' | 'braked' | undefined;
}

/**
 * Writes what a pass found and did, unless the lease was lost meanwhile: another process knows better then. Answers when
 * what the host did not do should be tried again; null when there is nothing.
 */
export async function recordPass(deps: Deps, lease: Lease, outcome: PassOutcome): Promise<Instant | null> {
  const { plan, held } = outcome;
  const at = deps.clock.now();
  const undone = undoneWishes(outcome);
  const verdicts = peerVerdicts(plan, undone);
  const failed = held === undefined ? failedPeers(deps, verdicts, plan) : [];
  await deps.store.transaction(async (tx) => {
    if (!(await holdsLease(tx, lease))) return;
    await recordApplied(tx, appliedPeers(verdicts), at);
    await recordFailed(tx, failed);
    await markGone(tx, goneKeys(plan, undone), at);
    await recordTraffic(tx, trafficOf(plan));
    await replaceForeignPeers(tx, { serverId: lease.serverId, peers: foreignPeers(plan), at });
    await recordServerSeen(tx, lease, { at, pendingChanges: undone.size, brakeReason: brakeText(plan.brake, held) });
  });
  return failed.map(({ nextAttemptAt }) => nextAttemptAt as Instant).toSorted()[0] ?? null;
}

/** Wishes that did not come true, by key or name, with what was in the way. */
function undoneWishes({ plan, results, held }: PassOutcome): ReadonlyMap<string, string> {
  const undone = new Map<string, string>();
  plan.diff.changes.forEach((change, index) => {
    const problem = held ?? problemOf(results[index]);
    if (problem !== undefined) undone.set(nameOf(change), problem);
  });
  for (const conflict of plan.diff.conflicts) undone.set(nameOf(conflict), conflict.kind);
  return undone;
}

function problemOf(result: ChangeResult | undefined): string | undefined {
  if (result === undefined) return 'the host did not answer';
  return result.outcome === 'applied' ? undefined : result.message;
}

function nameOf({ publicKey, tag }: { readonly publicKey: string | null; readonly tag: string | null }): string {
  return publicKey ?? tag ?? '';
}

interface Verdict {
  readonly peer: PeerRow;
  /** What the host should have of it; undefined for a peer that cannot be wished for. */
  readonly wish: PeerWish | undefined;
  /** What was in the way; undefined when the host has it as wished. */
  readonly problem: string | undefined;
}

/** What the pass says about each peer. A removed one is off the host when all of its keys are. */
function peerVerdicts({ wishes }: ServerPlan, undone: ReadonlyMap<string, string>): Verdict[] {
  const { snapshot, desired, server } = wishes;
  const peers = new Map(snapshot.peers.map((peer) => [peer.id, peer]));
  const verdicts = new Map<number, Verdict>();
  for (const wish of desired.wishes) {
    const peer = peers.get(wish.peerId);
    if (peer === undefined || !isAbout(wish, peer) || verdicts.get(peer.id)?.problem !== undefined) continue;
    verdicts.set(peer.id, { peer, wish, problem: undone.get(nameOf(wish)) });
  }
  for (const id of desired.unready) {
    const peer = peers.get(id);
    if (peer === undefined) continue;
    const isServersKey = peer.public_key !== null && peer.public_key === server.public_key;
    verdicts.set(id, { peer, wish: undefined, problem: isServersKey ? 'key_conflict' : 'incomplete' });
  }
  return [...verdicts.values()];
}

/** The tombstone of an old key says nothing about the peer that has a new one. */
function isAbout(wish: PeerWish, peer: PeerRow): boolean {
  return wish.state !== 'absent' || peer.removed_at !== null;
}

/** Peers that are as wished and are not recorded so yet. */
function appliedPeers(verdicts: readonly Verdict[]): Applied[] {
  return verdicts.flatMap(({ peer, wish, problem }) => {
    if (wish === undefined || problem !== undefined || isRecorded(peer, wish)) return [];
    return [{ id: peer.id, version: peer.wanted_version, state: wish.state }];
  });
}

function isRecorded(peer: PeerRow, wish: PeerWish): boolean {
  const isCurrent = peer.applied_version === peer.wanted_version && peer.applied_state === wish.state;
  return isCurrent && peer.last_error === null;
}

function failedPeers(deps: Deps, verdicts: readonly Verdict[], { observed, wishes }: ServerPlan): Failed[] {
  const ours = wishes.desired.ours;
  const onHost = new Map(observed.filter((peer) => ours.has(peer.publicKey)).map((peer) => [peer.publicKey, peer]));
  return verdicts.flatMap(({ peer, wish, problem: error }) => {
    if (error === undefined) return [];
    const state = observedState(wish?.publicKey == null ? undefined : onHost.get(wish.publicKey));
    const nextAttemptAt = addSeconds(deps.clock.now(), backoffSeconds(peer.attempts + 1, random01(deps)));
    return [{ id: peer.id, version: peer.wanted_version, state, error, nextAttemptAt }];
  });
}

function observedState(observed: ObservedPeer | undefined): PeerRow['applied_state'] {
  if (observed === undefined) return 'none';
  return observed.enabled ? 'present' : 'suspended';
}

/** Tombstones whose key the host no longer shows. */
function goneKeys({ wishes }: ServerPlan, undone: ReadonlyMap<string, string>): number[] {
  const absent = new Set<string | null>(
    wishes.desired.wishes.flatMap((wish) => (wish.state === 'absent' ? [wish.publicKey] : [])),
  );
  return wishes.snapshot.hostPeers
    .filter((row) => row.gone_at === null && absent.has(row.public_key) && !undone.has(row.public_key))
    .map((row) => row.id);
}

function trafficOf({ wishes, observed }: ServerPlan): PeerTraffic[] {
  const peers = new Map(wishes.snapshot.peers.map((peer) => [peer.public_key, peer]));
  return observed.flatMap(({ publicKey, lastHandshakeAt, rxBytes, txBytes }) => {
    const peer = peers.get(publicKey);
    if (peer === undefined || (peer.rx_bytes === rxBytes && peer.tx_bytes === txBytes)) return [];
    return [{ id: peer.id, lastHandshakeAt, rxBytes, txBytes }];
  });
}

function foreignPeers({ diff }: ServerPlan) {
  return diff.foreign.map((peer) => ({ public_key: peer.publicKey, allowed_ips: peer.allowedIps.join(', ') }));
}

/** For the jitter of back-offs. */
export function random01({ random }: Pick<Services, 'random'>): number {
  const [high = 0, low = 0] = random.bytes(2);
  return (high * 256 + low) / 65_536;
}

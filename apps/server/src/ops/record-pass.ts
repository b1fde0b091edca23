import {
  type Applied,
  type Failed,
  holdsLease,
  type Lease,
  markGone,
  type PeerRow,
  recordApplied,
  recordFailed,
  recordServerSeen,
  replaceForeignPeers,
  type ServerRow,
} from '@vpn-api/db';
import type { ChangeResult, ObservedPeer } from '@vpn-api/wg';
import { backoffSeconds } from '../domain/backoff.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { PeerWish } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import type { ChangeResults } from './apply-plan.ts';
import { brakeText, type ServerPlan } from './plan-server.ts';
import { type PeerReport, recordReports } from './record-reports.ts';
import { recordTraffic } from './record-traffic.ts';
import { tellPeers } from './tell-peers.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'random' | 'secretBox' | 'outbox' | 'config' | 'reconciler'>;

/** What came of a plan. */
export interface PassOutcome {
  readonly plan: ServerPlan;
  readonly results: ChangeResults;
  /** What the host said it runs; null where hosts do not say. */
  readonly driverVersion: string | null;
  /** Why no change was made; undefined when they were. */
  readonly held: 'planned' | 'braked' | undefined;
  /** The time of the pass was over before all was made: what is undone was not refused, and waits for the next one. */
  readonly isCut: boolean;
}

/**
 * Writes what a pass found and did, unless the lease was lost meanwhile: another process knows better then. Answers when
 * what the host did not do should be tried again; null when there is nothing.
 */
export async function recordPass(deps: Deps, lease: Lease, outcome: PassOutcome): Promise<Instant | null> {
  const { plan, held } = outcome;
  const at = deps.clock.now();
  const undone = undoneWishes(outcome);
  const refused = await recordReports(deps, lease, reportsOf(outcome));
  const verdicts = withProblems(peerVerdicts(plan, undone), refused);
  const failed = held === undefined ? undonePeers(deps, verdicts, plan) : [];
  await deps.store.transaction(async (tx) => {
    if (!(await holdsLease(tx, lease))) return;
    await recordApplied(tx, appliedPeers(verdicts), at);
    await recordFailed(tx, failed);
    await tellPeers(deps, tx, verdicts);
    await markGone(tx, goneKeys(plan, undone), at);
    await replaceForeignPeers(tx, { serverId: lease.serverId, peers: foreignPeers(plan), at });
    const seen = { at, pendingChanges: undone.size, brakeReason: brakeText(plan.brake, held) };
    await recordServerSeen(tx, lease, { ...seen, driverVersion: outcome.driverVersion });
  });
  await recordTraffic(deps, lease, plan);
  const waits = held === undefined && [...undone.values()].some(({ isRefusal }) => !isRefusal);
  const soon = waits ? addSeconds(at, backoffSeconds(1, random01(deps))) : null;
  return earliest([soon, ...failed.map(({ nextAttemptAt }) => nextAttemptAt)]);
}

/** What the host told about the peers that it made or was asked for. */
function reportsOf({ plan, results }: PassOutcome): PeerReport[] {
  const { wishes } = plan;
  const peers = new Map(wishes.snapshot.peers.map((peer) => [peer.id, peer]));
  const peerIds = new Map(wishes.desired.wishes.map((wish) => [wish.tag, wish.peerId]));
  return [...results].flatMap(([change, result]): PeerReport[] => {
    const peer = peers.get(peerIds.get(change.tag ?? '') ?? 0);
    const reported = result.outcome === 'applied' ? result.reported : undefined;
    return change.type !== 'set' || peer === undefined || reported === undefined ? [] : [{ peer, reported }];
  });
}

/** A peer that the host has and whose keys cannot be kept is as good as not there. */
function withProblems(verdicts: readonly Verdict[], problems: ReadonlyMap<number, string>): readonly Verdict[] {
  return verdicts.map((verdict) => {
    const message = problems.get(verdict.peer.id);
    return message === undefined ? verdict : { ...verdict, problem: verdict.problem ?? { message, isRefusal: true } };
  });
}

/** Why a wish did not come true. */
export interface Problem {
  readonly message: string;
  /** False when it is no fault of the peer's: its turn did not come, or the host was lost. It goes on waiting. */
  readonly isRefusal: boolean;
}

/** Wishes that did not come true, by key or name, with what was in the way. */
function undoneWishes({ plan, results, held, isCut }: PassOutcome): ReadonlyMap<string, Problem> {
  const undone = new Map<string, Problem>();
  for (const change of plan.diff.changes) {
    const problem = held === undefined ? problemOf(results.get(change), isCut) : { message: held, isRefusal: false };
    if (problem !== undefined) undone.set(nameOf(change), problem);
  }
  for (const conflict of plan.diff.conflicts) undone.set(nameOf(conflict), { message: conflict.kind, isRefusal: true });
  return undone;
}

function problemOf(result: ChangeResult | undefined, isCut: boolean): Problem | undefined {
  if (result === undefined || result.outcome === 'applied') return undefined;
  return { message: result.message, isRefusal: !isCut && result.hostLost !== true };
}

function nameOf({ publicKey, tag }: { readonly publicKey: string | null; readonly tag: string | null }): string {
  return publicKey ?? tag ?? '';
}

export interface Verdict {
  readonly peer: PeerRow;
  /** What the host should have of it; undefined for a peer that cannot be wished for. */
  readonly state: PeerWish['state'] | undefined;
  /** What was in the way; undefined when the host has it as wished. */
  readonly problem: Problem | undefined;
  /** Why the peer may be on the host or not; null for one that is removed. */
  readonly reason: PeerWish['reason'];
}

/** What the pass says about each peer of the server. */
function peerVerdicts({ wishes }: ServerPlan, undone: ReadonlyMap<string, Problem>): Verdict[] {
  const { snapshot, desired, server } = wishes;
  const wishesOf = Map.groupBy(desired.wishes, (wish) => wish.peerId);
  const unready = new Set(desired.unready);
  return snapshot.peers.flatMap((peer): Verdict[] => {
    if (peer.server_id !== server.id) return [];
    if (unready.has(peer.id)) return [{ peer, state: undefined, problem: whyUnready(peer, server), reason: null }];
    const about = (wishesOf.get(peer.id) ?? []).filter((wish) => isAbout(wish, peer));
    // A removed peer without a wish was never put there; one with several is gone when all of its keys are.
    const state = about[0]?.state ?? (peer.removed_at === null ? undefined : 'absent');
    const [problem] = about.flatMap((wish) => undone.get(nameOf(wish)) ?? []);
    return state === undefined ? [] : [{ peer, state, problem, reason: about[0]?.reason ?? null }];
  });
}

function whyUnready(peer: PeerRow, server: ServerRow): Problem {
  const isServers = peer.public_key !== null && peer.public_key === server.public_key;
  return { message: isServers ? 'key_conflict' : 'incomplete', isRefusal: true };
}

/** The tombstone of an old key says nothing about the peer that has a new one. */
function isAbout(wish: PeerWish, peer: PeerRow): boolean {
  return wish.state !== 'absent' || peer.removed_at !== null;
}

/** Peers that are as wished and are not recorded so yet. */
function appliedPeers(verdicts: readonly Verdict[]): Applied[] {
  return verdicts.flatMap(({ peer, state, problem }) => {
    if (state === undefined || problem !== undefined || isRecorded(peer, state)) return [];
    return [{ id: peer.id, serverId: peer.server_id, version: peer.wanted_version, state }];
  });
}

function isRecorded(peer: PeerRow, state: PeerWish['state']): boolean {
  const isCurrent = peer.applied_version === peer.wanted_version && peer.applied_state === state;
  return isCurrent && peer.last_error === null;
}

/** Refusals, and among what merely waits whatever is recorded otherwise than the host has it. */
function undonePeers(deps: Deps, verdicts: readonly Verdict[], plan: ServerPlan): Failed[] {
  const stateOf = observedStates(plan);
  return verdicts.flatMap((verdict): Failed[] => {
    const { peer, problem } = verdict;
    const undone = { id: peer.id, version: peer.wanted_version, state: stateOf(peer) };
    if (problem === undefined) return [];
    if (!problem.isRefusal)
      return isKnownToWait(verdict, undone.state) ? [] : [{ ...undone, error: null, nextAttemptAt: null }];
    const nextAttemptAt = addSeconds(deps.clock.now(), backoffSeconds(peer.attempts + 1, random01(deps)));
    return [{ ...undone, error: problem.message, nextAttemptAt }];
  });
}

function isKnownToWait({ peer, state: wanted }: Verdict, state: PeerRow['applied_state']): boolean {
  const isRight = wanted !== undefined && isRecorded(peer, wanted);
  return peer.applied_state === state && peer.last_error === null && !isRight;
}

function observedStates({ observed, wishes }: ServerPlan): (peer: PeerRow) => PeerRow['applied_state'] {
  const ours = wishes.desired.ours;
  const onHost = new Map<string | null, ObservedPeer>(
    observed.filter((peer) => ours.has(peer.publicKey)).map((peer) => [peer.publicKey, peer]),
  );
  return ({ public_key }) => observedState(onHost.get(public_key));
}

function observedState(observed: ObservedPeer | undefined): PeerRow['applied_state'] {
  if (observed === undefined) return 'none';
  return observed.enabled ? 'present' : 'suspended';
}

function earliest(moments: readonly (string | null)[]): Instant | null {
  return (moments.filter((moment) => moment !== null).toSorted()[0] ?? null) as Instant | null;
}

/** Tombstones whose key the host no longer shows. */
function goneKeys({ wishes }: ServerPlan, undone: ReadonlyMap<string, Problem>): number[] {
  const absent = new Set<string | null>(
    wishes.desired.wishes.flatMap((wish) => (wish.state === 'absent' ? [wish.publicKey] : [])),
  );
  return wishes.snapshot.hostPeers
    .filter((row) => row.gone_at === null && absent.has(row.public_key) && !undone.has(row.public_key))
    .map((row) => row.id);
}

function foreignPeers({ diff }: ServerPlan) {
  return diff.foreign.map((peer) => ({ public_key: peer.publicKey, allowed_ips: peer.allowedIps.join(', ') }));
}

/** For the jitter of back-offs. */
export function random01({ random }: Pick<Services, 'random'>): number {
  const [high = 0, low = 0] = random.bytes(2);
  return (high * 256 + low) / 65_536;
}

import {
  claimLease,
  findServer,
  holdsLease,
  type Lease,
  markGone,
  recordApplied,
  recordFailed,
  recordServerFailed,
  recordServerSeen,
  recordTraffic,
  releaseLease,
  replaceForeignPeers,
  type ServerRow,
} from '@vpn-api/db';
import { type ChangeResult, DriverError, type PeerChange, type WgDriver } from '@vpn-api/wg';
import { backoffSeconds } from '../domain/backoff.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { PeerWish } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import { planServer, type ServerPlan, wishesForServer } from './plan-server.ts';

export type ReconcileDeps = Pick<Services, 'store' | 'clock' | 'random' | 'secretBox' | 'log' | 'metrics' | 'installId'> & {
  /** Names this run of this process in leases. */
  readonly instanceId: string;
  readonly driverFor: (server: ServerRow) => WgDriver;
};

/** Longer than the two time-outs below together: a lease that ended in mid-change would let a second writer in. */
const LEASE_SECONDS = 45;
const LIST_TIMEOUT_MS = 10_000;
const APPLY_TIMEOUT_MS = 25_000;
/** How soon a server that another process works on is tried again. */
const BUSY_SECONDS = 0.5;

export interface Pass {
  /** `waiting`: the host failed and its back-off is not over. `planned`: it is only observed. */
  readonly outcome: 'busy' | 'waiting' | 'planned' | 'braked' | 'applied' | 'failed';
  /** Changes planned, or made. */
  readonly changes: number;
  /** When time alone, or a back-off, asks for the next pass; null when nothing does. */
  readonly nextAt: Instant | null;
}

/**
 * One compare of a host with what is paid: list, diff, change, record. Holds the server's lease, and no transaction while
 * the host is asked. Every step may be repeated: what a crash leaves half done is seen by the next list.
 */
export async function reconcileServer(deps: ReconcileDeps, serverId: number, stop: AbortSignal): Promise<Pass> {
  const now = deps.clock.now();
  const server = await findServer(deps.store, serverId);
  if (server === undefined) return { outcome: 'waiting', changes: 0, nextAt: null };
  if (server.next_attempt_at !== null && server.next_attempt_at > now) {
    return { outcome: 'waiting', changes: 0, nextAt: server.next_attempt_at as Instant };
  }
  const until = addSeconds(now, LEASE_SECONDS);
  const token = await claimLease(deps.store, { serverId, owner: deps.instanceId, now, until });
  if (token === undefined) return { outcome: 'busy', changes: 0, nextAt: addSeconds(now, BUSY_SECONDS) };
  const lease = { serverId, token };
  try {
    return await measuredPass(deps, { server, lease, stop });
  } finally {
    await releaseLease(deps.store, lease);
  }
}

interface PassInput {
  readonly server: ServerRow;
  readonly lease: Lease;
  readonly stop: AbortSignal;
}

async function measuredPass(deps: ReconcileDeps, input: PassInput): Promise<Pass> {
  const stop = deps.metrics.startReconcile(input.server.name);
  try {
    const { pass, changes } = await comparePass(deps, input);
    stop({ result: pass.outcome === 'braked' ? 'braked' : 'ok', changes });
    return pass;
  } catch (error) {
    stop({ result: 'failed' });
    if (!(error instanceof DriverError) || input.stop.aborted) throw error;
    return failedPass(deps, input, error);
  }
}

async function comparePass(deps: ReconcileDeps, { server, lease, stop }: PassInput) {
  const driver = deps.driverFor(server);
  const observed = await driver.list(withTimeout(stop, LIST_TIMEOUT_MS));
  // Read after the list: a peer that was made meanwhile is set at worst twice, and never taken for foreign.
  const now = deps.clock.now();
  const wishes = await wishesForServer(deps.store, { serverId: server.id, installId: deps.installId, now });
  const plan = planServer(deps, wishes, observed);
  const held = holdReason(plan);
  const made = held === undefined ? plan.diff.changes : [];
  const results = made.length === 0 ? [] : await driver.apply(made, withTimeout(stop, APPLY_TIMEOUT_MS));
  const outcome = { plan, results, held };
  await recordPass(deps, lease, outcome);
  const pass: Pass = { outcome: held ?? 'applied', changes: plan.diff.changes.length, nextAt: nextPassAt(deps, outcome) };
  return { pass, changes: countByType(made) };
}

function withTimeout(stop: AbortSignal, milliseconds: number): AbortSignal {
  return AbortSignal.any([stop, AbortSignal.timeout(milliseconds)]);
}

/** A host in `observe` mode is only looked at; a braked one waits for a person. */
function holdReason({ wishes, brake }: ServerPlan): 'planned' | 'braked' | undefined {
  if (wishes.server.mode === 'observe') return 'planned';
  return brake === undefined ? undefined : 'braked';
}

function countByType(changes: readonly PeerChange[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { type } of changes) counts[type] = (counts[type] ?? 0) + 1;
  return counts;
}

interface Outcome {
  readonly plan: ServerPlan;
  readonly results: readonly ChangeResult[];
  readonly held: 'planned' | 'braked' | undefined;
}

/** The host did not do all of it: again soon. The loop's own interval is for everything else. */
function nextPassAt(deps: ReconcileDeps, { plan, results }: Outcome): Instant | null {
  const { nextChangeAt } = plan.wishes.desired;
  if (results.every(({ outcome }) => outcome === 'applied')) return nextChangeAt;
  const retryAt = addSeconds(deps.clock.now(), backoffSeconds(1, random01(deps)));
  return nextChangeAt !== null && nextChangeAt < retryAt ? nextChangeAt : retryAt;
}

/** Writes what the pass found and did, unless the lease was lost meanwhile: another process knows better then. */
async function recordPass(deps: ReconcileDeps, lease: Lease, outcome: Outcome): Promise<void> {
  const { plan, held } = outcome;
  const at = deps.clock.now();
  const undone = undoneWishes(outcome);
  const foreign = plan.diff.foreign.map((peer) => ({
    public_key: peer.publicKey,
    allowed_ips: peer.allowedIps.join(', '),
  }));
  await deps.store.transaction(async (tx) => {
    if (!(await holdsLease(tx, lease))) return;
    await recordApplied(tx, appliedPeers(plan, undone), at);
    if (held === undefined) await recordFailed(tx, failedPeers(plan, undone, at));
    await markGone(tx, goneHostPeers(plan, undone), at);
    await recordTraffic(tx, trafficOf(plan));
    await replaceForeignPeers(tx, { serverId: lease.serverId, peers: foreign, at });
    await recordServerSeen(tx, lease, {
      at,
      pendingChanges: held === undefined ? undone.size : plan.diff.changes.length,
      brakeReason: held === 'braked' ? (plan.brake ?? null) : null,
    });
  });
}

/** Wishes that did not come true, by key or name, with what was in the way. */
function undoneWishes({ plan, results, held }: Outcome): ReadonlyMap<string, string> {
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

/** Live peers that are as wanted and are not yet recorded so. */
function appliedPeers({ wishes }: ServerPlan, undone: ReadonlyMap<string, string>) {
  const peers = new Map(wishes.snapshot.peers.map((peer) => [peer.id, peer]));
  return wishes.desired.wishes.flatMap((wish) => {
    const peer = peers.get(wish.peerId);
    if (peer === undefined || undone.has(nameOf(wish))) return [];
    const state = appliedState(wish, peer.removed_at !== null);
    const isKnown =
      peer.applied_state === state && peer.applied_version === peer.wanted_version && peer.last_error === null;
    return state === undefined || isKnown ? [] : [{ id: peer.id, version: peer.wanted_version, state }];
  });
}

/** A tombstone says something about its peer only when the peer itself is removed; else it is an old key's. */
function appliedState({ state }: PeerWish, isRemoved: boolean) {
  if (state !== 'absent') return state;
  return isRemoved ? ('absent' as const) : undefined;
}

function failedPeers({ wishes }: ServerPlan, undone: ReadonlyMap<string, string>, now: Instant) {
  const versions = new Map(wishes.snapshot.peers.map((peer) => [peer.id, peer.wanted_version]));
  return wishes.desired.wishes.flatMap((wish) => {
    const error = undone.get(nameOf(wish));
    const version = versions.get(wish.peerId);
    if (error === undefined || version === undefined) return [];
    return [{ id: wish.peerId, version, error, nextAttemptAt: now }];
  });
}

/** Tombstones whose key the host no longer shows. */
function goneHostPeers({ wishes }: ServerPlan, undone: ReadonlyMap<string, string>): number[] {
  const absent = new Set(wishes.desired.wishes.flatMap((wish) => (wish.state === 'absent' ? [wish.publicKey] : [])));
  return wishes.snapshot.hostPeers
    .filter((row) => row.gone_at === null && absent.has(row.public_key as PeerWish['publicKey']))
    .filter((row) => !undone.has(row.public_key))
    .map((row) => row.id);
}

function trafficOf({ wishes, observed }: ServerPlan) {
  const peers = new Map(wishes.snapshot.peers.map((peer) => [peer.public_key, peer]));
  return observed.flatMap(({ publicKey, lastHandshakeAt, rxBytes, txBytes }) => {
    const peer = peers.get(publicKey);
    if (peer === undefined || (peer.rx_bytes === rxBytes && peer.tx_bytes === txBytes)) return [];
    return [{ id: peer.id, lastHandshakeAt, rxBytes, txBytes }];
  });
}

async function failedPass(deps: ReconcileDeps, { server, lease }: PassInput, error: DriverError): Promise<Pass> {
  const at = deps.clock.now();
  const nextAttemptAt = addSeconds(at, backoffSeconds(server.attempts + 1, random01(deps)));
  await recordServerFailed(deps.store, lease, { at, error: `${error.code}: ${error.message}`, nextAttemptAt });
  deps.log.warn({ server: server.name, code: error.code, err: error }, 'the host could not be compared');
  return { outcome: 'failed', changes: 0, nextAt: nextAttemptAt };
}

function random01({ random }: Pick<Services, 'random'>): number {
  const [high = 0, low = 0] = random.bytes(2);
  return (high * 256 + low) / 65_536;
}

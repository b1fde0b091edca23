import { findServer, type Lease, recordServerFailed, type ServerRow } from '@vpn-api/db';
import { DriverError, type PeerChange, type WgDriver } from '@vpn-api/wg';
import { BACKOFF_CAP_SECONDS, backoffSeconds, UNREACHABLE_CAP_SECONDS } from '../domain/backoff.ts';
import { addSeconds, type Instant, minInstant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { applyPlan, type ChangeResults } from './apply-plan.ts';
import { countDrift } from './count-drift.ts';
import { learnFromHost } from './env-server.ts';
import { followHostKey } from './follow-host-key.ts';
import { isAgreed, planServer, type ServerPlan, wishesForServer } from './plan-server.ts';
import { readdressPeer } from './readdress-peer.ts';
import { random01, recordPass } from './record-pass.ts';
import { LeaseLostError, withServerLease } from './server-lease.ts';

export type ReconcileDeps = Pick<
  Services,
  'store' | 'clock' | 'random' | 'secretBox' | 'log' | 'metrics' | 'installId' | 'config' | 'outbox' | 'reconciler'
> & {
  /** Names this run of this process in leases. */
  readonly instanceId: string;
  readonly driverFor: (server: ServerRow) => WgDriver;
  readonly timeouts?: HostTimeouts;
};

/** How long a host may take to answer. Tests that let one hang are not patient. */
export interface HostTimeouts {
  readonly listMs: number;
  readonly applyMs: number;
}

const TIMEOUTS: HostTimeouts = { listMs: 10_000, applyMs: 25_000 };
/** How soon a server that another process works on is tried again. */
const BUSY_SECONDS = 0.5;

export interface Pass {
  /**
   * `busy`: another process works on the host. `waiting`: it failed and its back-off is not over. `planned`: it is only
   * observed. `braked`: the plan waits for a person. `stopped`: we were told to end.
   */
  readonly outcome: 'busy' | 'waiting' | 'planned' | 'braked' | 'applied' | 'failed' | 'stopped';
  /** Changes planned, or made. */
  readonly changes: number;
  /** When time alone, or something undone, asks for the next pass; null when nothing does. */
  readonly nextAt: Instant | null;
  /** Its time was over before its work was: the next pass goes on at once. */
  readonly goesOn?: boolean;
}

export interface PassOptions {
  /** Ends the pass early. What it did is seen by the next one. */
  readonly signal: AbortSignal;
  /** A person has seen the plan: the brake is off for this pass. */
  readonly approved?: boolean;
  /** A person has seen a plan that takes so many peers off for no scheduled reason: no larger one is carried out. */
  readonly acceptedRemovals?: number | undefined;
}

/**
 * One compare of a host with what is paid: list, diff, change, record. Holds the server's lease, and no transaction while
 * the host is asked. Every step may be repeated: what a crash leaves half done is seen by the next list.
 *
 * A failing host is recorded, not thrown.
 */
export async function reconcileServer(deps: ReconcileDeps, serverId: number, options: PassOptions): Promise<Pass> {
  const server = await findServer(deps.store, serverId);
  if (server === undefined || isLeftAlone(server)) return { outcome: 'waiting', changes: 0, nextAt: null };
  const waitsUntil = backoffEnd(server, deps.clock.now());
  if (waitsUntil !== undefined) return { outcome: 'waiting', changes: 0, nextAt: waitsUntil };
  const pass = await withServerLease(deps, { serverId, owner: deps.instanceId }, (lease, lost) =>
    measuredPass(deps, { server, lease, ...options, signal: AbortSignal.any([options.signal, lost]) }),
  );
  return pass ?? busyPass(deps);
}

/** A host that was given up, or that is no longer ours to ask. */
function isLeftAlone({ retired_at, removed_at }: ServerRow): boolean {
  return retired_at !== null || removed_at !== null;
}

function busyPass({ clock }: ReconcileDeps): Pass {
  return { outcome: 'busy', changes: 0, nextAt: addSeconds(clock.now(), BUSY_SECONDS) };
}

/** An end further away than any back-off is from a future that the clock has left again. */
function backoffEnd({ next_attempt_at: end }: ServerRow, now: Instant): Instant | undefined {
  if (end === null || end <= now || end > addSeconds(now, BACKOFF_CAP_SECONDS)) return undefined;
  return end as Instant;
}

interface PassInput extends PassOptions {
  readonly server: ServerRow;
  readonly lease: Lease;
}

async function measuredPass(deps: ReconcileDeps, input: PassInput): Promise<Pass> {
  const stopTimer = deps.metrics.startReconcile(input.server.name);
  try {
    const { pass, plan, results } = await comparePass(deps, input);
    const made = madeOf(results);
    const counts = { changes: countByType(made), drift: countDrift(plan, made) };
    stopTimer({ result: pass.outcome === 'braked' ? 'braked' : 'ok', ...counts });
    return pass;
  } catch (error) {
    stopTimer({ result: 'failed' });
    if (error instanceof LeaseLostError) return busyPass(deps);
    if (!(error instanceof DriverError)) throw error;
    if (input.signal.reason instanceof LeaseLostError) return busyPass(deps);
    return input.signal.aborted ? { outcome: 'stopped', changes: 0, nextAt: null } : failedPass(deps, input, error);
  }
}

interface Compared {
  readonly pass: Pass;
  readonly plan: ServerPlan;
  readonly results: ChangeResults;
}

async function comparePass(deps: ReconcileDeps, { server, lease, signal, ...consent }: PassInput): Promise<Compared> {
  const { timeouts = TIMEOUTS } = deps;
  const driver = deps.driverFor(server);
  const observed = await driver.list(withTimeout(signal, timeouts.listMs));
  const learn = (row: ServerRow) => learnFromHost(deps, row, { driver, signal: withTimeout(signal, timeouts.listMs) });
  const known = await learn(server);
  // Read after the list: a peer that was made meanwhile is set at worst twice, and never taken for foreign.
  const { installId } = deps;
  const wishes = await wishesForServer(deps.store, { serverId: server.id, installId, now: deps.clock.now() });
  const plan = planServer(deps, wishes, observed);
  const held = holdReason(plan, consent);
  if (held === 'braked') warnOfBrake(deps, plan);
  const changes = held === undefined ? plan.diff.changes : [];
  const applySignal = withTimeout(signal, timeouts.applyMs);
  const results = await applyPlan(deps, { lease, driver, changes, signal: applySignal });
  // As long as the host gets on with it, what did not fit into the time of one pass only waits for the next.
  const goesOn = applySignal.aborted && madeOf(results).length > 0;
  if (server.attempts > 0) deps.log.info({ server: server.name, failures: server.attempts }, 'the host is back');
  // Before anybody is told to fetch his config: it must not have the old key.
  await followHostKey(deps, known, results);
  const retryAt = await recordPass(deps, lease, {
    plan,
    results,
    held,
    isCut: goesOn,
    driverVersion: driver.version ?? null,
  });
  // Some hosts tell about themselves only once they have a peer.
  if (results.size > 0) await learn(known);
  const hasMoved = held === undefined && (await giveNewAddresses(deps, plan));
  const nextAt = hasMoved || goesOn ? deps.clock.now() : earlier(wishes.desired.nextChangeAt, retryAt);
  return { pass: { outcome: held ?? 'applied', changes: plan.diff.changes.length, nextAt, goesOn }, plan, results };
}

function withTimeout(signal: AbortSignal, milliseconds: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]);
}

/** A host in `observe` mode is only looked at; a braked one waits for a person. */
function holdReason(
  plan: ServerPlan,
  { approved = false, acceptedRemovals = 0 }: Pick<PassOptions, 'approved' | 'acceptedRemovals'>,
): 'planned' | 'braked' | undefined {
  const { server } = plan.wishes;
  if (server.mode === 'observe') return 'planned';
  if (plan.brake === undefined || approved || plan.brake.unscheduled <= acceptedRemovals) return undefined;
  if (isAgreed(plan.brake, server)) return undefined;
  return 'braked';
}

/** Once, and not again every minute until somebody comes. */
function warnOfBrake({ log }: ReconcileDeps, { wishes: { server }, brake }: ServerPlan): void {
  if (server.brake_reason === null) log.warn({ server: server.name, ...brake }, 'a plan waits for a person');
}

/** An address that turned out to be somebody else's on the host is never taken over: the peer gets a new one. */
async function giveNewAddresses(deps: ReconcileDeps, { wishes, diff }: ServerPlan): Promise<boolean> {
  const foreignKeys = new Set<string | null>(diff.foreign.map((peer) => peer.publicKey));
  const peerIds = new Map(wishes.desired.wishes.map((wish) => [wish.tag, wish.peerId]));
  let hasMoved = false;
  for (const { kind, tag, address, heldBy } of diff.conflicts) {
    const peerId = peerIds.get(tag);
    if (kind !== 'address_conflict' || address === undefined || peerId === undefined || !foreignKeys.has(heldBy))
      continue;
    hasMoved = (await readdressPeer(deps, { peerId, address })) || hasMoved;
  }
  return hasMoved;
}

function earlier(a: Instant | null, b: Instant | null): Instant | null {
  return a === null || b === null ? (a ?? b) : minInstant(a, b);
}

function madeOf(results: ChangeResults): PeerChange[] {
  return [...results].flatMap(([change, { outcome }]) => (outcome === 'applied' ? [change] : []));
}

function countByType(changes: readonly PeerChange[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { type } of changes) counts[type] = (counts[type] ?? 0) + 1;
  return counts;
}

async function failedPass(deps: ReconcileDeps, { server, lease }: PassInput, error: DriverError): Promise<Pass> {
  const at = deps.clock.now();
  const cap = error.code === 'unreachable' ? UNREACHABLE_CAP_SECONDS : BACKOFF_CAP_SECONDS;
  const nextAttemptAt = addSeconds(at, backoffSeconds(server.attempts + 1, random01(deps), cap));
  const text = `${error.code}: ${error.message}`;
  await recordServerFailed(deps.store, lease, { at, error: text, nextAttemptAt });
  // Once, and not every few seconds for as long as the host is down.
  const level = server.last_error === text ? 'debug' : 'warn';
  deps.log[level]({ server: server.name, code: error.code, err: error }, 'the host could not be compared');
  return { outcome: 'failed', changes: 0, nextAt: nextAttemptAt };
}

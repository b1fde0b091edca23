import { claimHostPeers, holdsLease, type Lease } from '@vpn-api/db';
import type { ChangeResult, PeerChange, WgDriver } from '@vpn-api/wg';
import type { Services } from '../services.ts';
import { LeaseLostError } from './server-lease.ts';

/** What became of each change. */
export type ChangeResults = ReadonlyMap<PeerChange, ChangeResult>;

interface PlanToApply {
  readonly lease: Lease;
  readonly driver: WgDriver;
  readonly changes: readonly PeerChange[];
  readonly signal: AbortSignal;
}

/**
 * Makes the changes on the host. Before that it writes down which keys it will put there: whatever happens next, what the
 * host then shows under one of them is ours.
 * @throws LeaseLostError, DriverError
 */
export async function applyPlan(
  deps: Pick<Services, 'store' | 'clock'>,
  { lease, driver, changes, signal }: PlanToApply,
): Promise<ChangeResults> {
  if (changes.length === 0) return new Map();
  const refused = await claimKeys(deps, lease, changes);
  const wanted = changes.filter((change) => !refused.has(change));
  const results = wanted.length === 0 ? [] : await driver.apply(wanted, signal);
  const answers = wanted.map((change, index) => [change, results[index] ?? NO_ANSWER] as const);
  return new Map([...answers, ...[...refused].map((change) => [change, KEY_CONFLICT] as const)]);
}

const NO_ANSWER: ChangeResult = { outcome: 'unknown', message: 'the host did not answer' };
const KEY_CONFLICT: ChangeResult = { outcome: 'failed', message: 'key_conflict' };

/** Answers the changes that must not be made: their key is another peer's on this host, or its peer changed meanwhile. */
async function claimKeys(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  lease: Lease,
  changes: readonly PeerChange[],
): Promise<ReadonlySet<PeerChange>> {
  const sets = changes.filter(({ type, publicKey }) => type === 'set' && publicKey !== null);
  const publicKeys = sets.flatMap(({ publicKey }) => publicKey ?? []);
  const claimed = await store.transaction(async (tx) => {
    if (!(await holdsLease(tx, lease))) throw new LeaseLostError();
    return claimHostPeers(tx, { serverId: lease.serverId, publicKeys, at: clock.now() });
  });
  const ours = new Set<string | null>(claimed);
  return new Set(sets.filter(({ publicKey }) => !ours.has(publicKey)));
}

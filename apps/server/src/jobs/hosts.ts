import { setTimeout as sleep } from 'node:timers/promises';
import { type Pass, type ReconcileDeps, reconcileServer } from '../ops/reconcile-server.ts';
import type { Hosts } from '../services.ts';

/** Longer than a list and its changes may take. */
const COMPARE_MS = 45_000;
/** A pass of a healthy host takes well under a second, and whoever asked waits. */
const BUSY_TRIES = 40;
const BUSY_PAUSE_MS = 250;

/** What requests may do with hosts. The lease keeps them apart from the loops of this and every other process. */
export function makeHosts(deps: ReconcileDeps): Hosts {
  return {
    driverFor: deps.driverFor,
    compare: (serverId, consent) => compareNow(deps, serverId, consent),
  };
}

async function compareNow(
  deps: ReconcileDeps,
  serverId: number,
  consent: { readonly acceptedRemovals: number },
): Promise<Pass> {
  const signal = AbortSignal.timeout(COMPARE_MS);
  for (let tried = 1; ; tried += 1) {
    const pass = await reconcileServer(deps, serverId, { signal, ...consent });
    if (pass.outcome !== 'busy' || tried >= BUSY_TRIES) return pass;
    await sleep(BUSY_PAUSE_MS);
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import { type Pass, type ReconcileDeps, reconcileServer } from '../ops/reconcile-server.ts';
import type { Hosts } from '../services.ts';

/** Whoever asked is answered before he gives up waiting. What a slow host has not made by then the loop goes on with. */
const COMPARE_MS = 15_000;
/** A pass of a healthy host takes well under a second. */
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

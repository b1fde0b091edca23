import { claimLease, type Lease, releaseLease, renewLease } from '@vpn-api/db';
import { addSeconds } from '../domain/instant.ts';
import type { Services } from '../services.ts';

/** How long a host waits for a process that died while working on it. */
const LEASE_SECONDS = 10;
/** Twice within the lease, so that one slow write does not lose it. */
const RENEW_SECONDS = 4;
/** Clocks of two instances differ less than this. */
const CLOCK_SKEW_SECONDS = 60;

type Deps = Pick<Services, 'store' | 'clock'>;

/** Another instance took the server over while this one still worked on it. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';

  constructor() {
    super('another instance took the server over');
  }
}

interface LeaseRequest {
  readonly serverId: number;
  /** Names this run of this process. */
  readonly owner: string;
}

/**
 * Runs `work` as the only one, among all instances, to work on a server; answers undefined when somebody else does. The
 * lease is renewed meanwhile; `lost` is aborted when that fails because another instance took over.
 */
export async function withServerLease<T>(
  deps: Deps,
  { serverId, owner }: LeaseRequest,
  work: (lease: Lease, lost: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const now = deps.clock.now();
  const until = addSeconds(now, LEASE_SECONDS);
  const latest = addSeconds(until, CLOCK_SKEW_SECONDS);
  const token = await claimLease(deps.store, { serverId, owner, now, until, latest });
  if (token === undefined) return undefined;
  const keeper = new LeaseKeeper(deps, { serverId, token });
  try {
    return await work(keeper.lease, keeper.lost);
  } finally {
    await keeper.stop();
  }
}

class LeaseKeeper {
  readonly lease: Lease;
  readonly #deps: Deps;
  readonly #lost = new AbortController();
  #cancelTimer: () => void = () => {};
  #renewal: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(deps: Deps, lease: Lease) {
    this.#deps = deps;
    this.lease = lease;
    this.#schedule();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** A lease that cannot be given back runs out by itself. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelTimer();
    await this.#renewal;
    await releaseLease(this.#deps.store, this.lease).catch(() => {});
  }

  #schedule(): void {
    if (this.#isStopped) return;
    const next = addSeconds(this.#deps.clock.now(), RENEW_SECONDS);
    this.#cancelTimer = this.#deps.clock.at(next, () => {
      this.#renewal = this.#renew();
    });
  }

  async #renew(): Promise<void> {
    const now = this.#deps.clock.now();
    const until = addSeconds(now, LEASE_SECONDS);
    // A database that does not answer proves no take-over; what is recorded is fenced by the token anyway.
    const isHeld = await renewLease(this.#deps.store, this.lease, { now, until }).catch(() => true);
    if (isHeld) this.#schedule();
    else this.#lost.abort(new LeaseLostError());
  }
}

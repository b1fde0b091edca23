import { claimLease, type Lease, releaseLease, renewLease } from '@vpn-api/db';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';

/** How long a host waits for a process that died while working on it. */
const LEASE_SECONDS = 10;
/** Twice within the lease, so that one slow write does not lose it. */
const RENEW_SECONDS = 4;
/** How soon a renewal that failed is tried again. */
const RETRY_SECONDS = 1;
/** So long before its end an unrenewed lease counts as lost: what the host is still busy with is over by then. */
const MARGIN_SECONDS = 2;
/** Clocks of two instances differ less than this. */
const CLOCK_SKEW_SECONDS = 60;

type Deps = Pick<Services, 'store' | 'clock'>;

/** Another instance took the server over, or may do so any moment, while this one still worked on it. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';

  constructor() {
    super('another instance took the server over, or may do so');
  }
}

interface LeaseRequest {
  readonly serverId: number;
  /** Names this run of this process. */
  readonly owner: string;
}

/**
 * Runs `work` as the only one, among all instances, to work on a server; answers undefined when somebody else does. The
 * lease is renewed meanwhile; `lost` is aborted when another instance took over, and before one may do so because the
 * database could not be asked for more time. Nobody may change the host after that.
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
  const keeper = new LeaseKeeper(deps, { serverId, token }, until);
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
  #cancelRenewal: () => void = () => {};
  #cancelEnd: () => void = () => {};
  #renewal: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(deps: Deps, lease: Lease, until: Instant) {
    this.#deps = deps;
    this.lease = lease;
    this.#holdUntil(until);
    this.#renewIn(RENEW_SECONDS);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** A lease that cannot be given back runs out by itself. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelRenewal();
    this.#cancelEnd();
    await this.#renewal;
    await releaseLease(this.#deps.store, this.lease).catch(() => {});
  }

  /** Apart from the renewals: one of them may hang in a database that does not answer. */
  #holdUntil(until: Instant): void {
    this.#cancelEnd();
    if (this.#isStopped) return;
    this.#cancelEnd = this.#deps.clock.at(addSeconds(until, -MARGIN_SECONDS), () => this.#lose());
  }

  #renewIn(seconds: number): void {
    if (this.#isStopped || this.#lost.signal.aborted) return;
    const next = addSeconds(this.#deps.clock.now(), seconds);
    this.#cancelRenewal = this.#deps.clock.at(next, () => {
      this.#renewal = this.#renew();
    });
  }

  async #renew(): Promise<void> {
    const now = this.#deps.clock.now();
    const until = addSeconds(now, LEASE_SECONDS);
    const isHeld = await renewLease(this.#deps.store, this.lease, { now, until }).catch(() => undefined);
    if (isHeld === false) return this.#lose();
    if (isHeld === true) this.#holdUntil(until);
    this.#renewIn(isHeld === true ? RENEW_SECONDS : RETRY_SECONDS);
  }

  #lose(): void {
    this.#cancelRenewal();
    this.#lost.abort(new LeaseLostError());
  }
}

import { addSeconds, type Instant } from '../domain/instant.ts';
import type { SettleDeps } from '../ops/apply-settlement.ts';
import { settleParked } from '../ops/settle-parked.ts';
import type { Services, Waker } from '../services.ts';
import { Loop } from './loop.ts';

/** For events whose payment another process made or settled: only that one was woken by it. */
const INTERVAL_SECONDS = 60;

export type ParkedEventsDeps = Omit<SettleDeps, 'parkedEvents'> & Pick<Services, 'store' | 'log' | 'paymentPolls'>;

/** Tries parked payment events again whenever something was settled that they may wait for. */
export class ParkedEventsLoop implements Waker, AsyncDisposable {
  readonly #loop: Loop;

  constructor(deps: ParkedEventsDeps) {
    const next = (): Instant => addSeconds(deps.clock.now(), INTERVAL_SECONDS);
    this.#loop = new Loop({
      clock: deps.clock,
      run: async () => {
        await settleParked({ ...deps, parkedEvents: this });
        return next();
      },
      onError: (error) => {
        deps.log.error({ err: error }, 'parked events could not be tried again');
        return next();
      },
    });
  }

  wake(): void {
    this.#loop.wake();
  }

  idle(): Promise<void> {
    return this.#loop.idle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#loop[Symbol.asyncDispose]();
  }
}

import { addSeconds, minInstant } from '../domain/instant.ts';
import { tellExpiries } from '../ops/expiry-notices.ts';
import type { Services, Waker } from '../services.ts';
import { Loop } from './loop.ts';

/** For periods that were granted or cut since the last round, whose ends were not known then. */
const INTERVAL_SECONDS = 60;

/** Tells of paid time that ends soon or has ended. */
export class ExpiryNotices implements Waker, AsyncDisposable {
  readonly #loop: Loop;

  constructor(deps: Pick<Services, 'store' | 'clock' | 'config' | 'outbox' | 'log'>) {
    const { clock, log } = deps;
    this.#loop = new Loop({
      clock,
      run: async () => minInstant(await tellExpiries(deps), addSeconds(clock.now(), INTERVAL_SECONDS)),
      onError: (error) => {
        log.error({ err: error }, 'the ends of subscriptions could not be told');
        return addSeconds(clock.now(), INTERVAL_SECONDS);
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

import { findNextPollAt, findNextRefundAttemptAt, type Queryable } from '@vpn-api/db';
import { addSeconds, type Instant, minInstant } from '../domain/instant.ts';
import { newRound } from '../ops/ask-provider.ts';
import { retryRefunds } from '../ops/carry-out-refund.ts';
import { nameHints } from '../ops/name-hints.ts';
import { type PollDeps, pollPayments } from '../ops/poll-payments.ts';
import type { Waker } from '../services.ts';
import { Loop } from './loop.ts';

/** For hints and payments that another process took: only that one was woken by them. */
const INTERVAL_SECONDS = 60;

/** The janitor of money: asks providers about payments, hints and refunds that nobody told us the end of. */
export class PaymentPollLoop implements Waker, AsyncDisposable {
  readonly #loop: Loop;

  constructor(core: Omit<PollDeps, 'paymentPolls'>) {
    const deps: PollDeps = { ...core, paymentPolls: this };
    this.#loop = new Loop({
      clock: deps.clock,
      run: async (signal) => {
        await runRound(deps, signal);
        return nextRoundAt(deps);
      },
      onError: (error) => {
        deps.log.error({ err: error }, 'providers could not be asked about payments');
        return addSeconds(deps.clock.now(), INTERVAL_SECONDS);
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

/** One part that fails does not keep the others from their work. */
async function runRound(deps: PollDeps, signal: AbortSignal): Promise<void> {
  const round = newRound(signal);
  const errors: unknown[] = [];
  for (const part of [nameHints, retryRefunds, pollPayments]) {
    await part(deps, round).catch((error: unknown) => void errors.push(error));
  }
  if (errors.length > 0) throw new AggregateError(errors, 'a part of the round failed');
}

async function nextRoundAt({ store, clock }: { store: Queryable; clock: PollDeps['clock'] }): Promise<Instant> {
  const latest = addSeconds(clock.now(), INTERVAL_SECONDS);
  const due = [await findNextPollAt(store), await findNextRefundAttemptAt(store)];
  return due.reduce<Instant>((next, at) => (at === undefined ? next : minInstant(next, at)), latest);
}

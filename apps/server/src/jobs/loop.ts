import type { Instant } from '../domain/instant.ts';
import type { Clock, Waker } from '../services.ts';

export interface LoopOptions {
  readonly clock: Clock;
  /** One round; answers when the next one is due at the latest. Never overlaps with itself. */
  readonly run: (signal: AbortSignal) => Promise<Instant>;
  /** A round threw; answers when to try again. */
  readonly onError: (error: unknown) => Instant;
}

/**
 * A background job: runs when it is due, when somebody wakes it, and once more when it was woken while running, so that
 * no wake-up is ever lost. Stopping waits for the round under way, whose signal is aborted.
 */
export class Loop implements Waker, AsyncDisposable {
  readonly #options: LoopOptions;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  #wokenAgain = false;
  #cancelTimer: () => void = () => {};

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  wake(): void {
    if (this.#abort.signal.aborted) return;
    if (this.#running !== undefined) {
      this.#wokenAgain = true;
      return;
    }
    this.#cancelTimer();
    // In a later tick, so that a round that wakes its own loop at once finds it running.
    this.#running = Promise.resolve().then(() => this.#rounds());
  }

  /** Resolves when the round under way, if any, and those it was woken for meanwhile are over. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    this.#cancelTimer();
    await this.idle();
  }

  async #rounds(): Promise<void> {
    let next: Instant;
    do {
      this.#wokenAgain = false;
      next = await this.#round();
    } while (this.#wokenAgain && !this.#abort.signal.aborted);
    // In the same tick as the check above: a wake-up in between would be lost.
    this.#running = undefined;
    if (!this.#abort.signal.aborted) this.#cancelTimer = this.#options.clock.at(next, () => this.wake());
  }

  async #round(): Promise<Instant> {
    try {
      return await this.#options.run(this.#abort.signal);
    } catch (error) {
      return this.#options.onError(error);
    }
  }
}

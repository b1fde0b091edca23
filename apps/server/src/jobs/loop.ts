import { addSeconds, type Instant, minInstant, secondsBetween } from '../domain/instant.ts';
import type { Clock, Waker } from '../services.ts';

export interface LoopOptions {
  readonly clock: Clock;
  /** One round; answers when the next one is due at the latest. Never overlaps with itself. */
  readonly run: (signal: AbortSignal) => Promise<Instant>;
  /** A round threw; answers when to try again. */
  readonly onError: (error: unknown) => Instant;
}

/**
 * A pause after a round lasts this many times the round, so that a loop that is woken all the time takes at most a fifth
 * of the process for itself.
 */
const PAUSE_FACTOR = 4;
/** Even after the longest round what woke the loop is looked at within a second: access follows a payment in two. */
const MAX_PAUSE_SECONDS = 1;

/**
 * A background job: runs when it is due, when somebody wakes it, and once more when it was woken while running, so that
 * no wake-up is ever lost. A hundred wake-ups in a moment cost one round. Stopping waits for the round under way, whose
 * signal is aborted.
 */
export class Loop implements Waker, AsyncDisposable {
  readonly #options: LoopOptions;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  #wokenAgain = false;
  #cancelTimer: () => void = () => {};
  /** When the next round is due without a wake-up, and the earliest moment for one with it. */
  #dueAt: Instant | undefined;
  #pausedUntil: Instant | undefined;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  wake(): void {
    if (this.#abort.signal.aborted) return;
    if (this.#running !== undefined) {
      this.#wokenAgain = true;
      return;
    }
    if (this.#isPaused()) this.#schedule(this.#pausedUntil as Instant);
    else this.#start();
  }

  /** No round is under way. */
  get isIdle(): boolean {
    return this.#running === undefined;
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

  /** The time has come, be it in the middle of a pause: only wake-ups wait. */
  #come(): void {
    if (this.#running === undefined) this.#start();
    else this.#wokenAgain = true;
  }

  #start(): void {
    this.#cancelTimer();
    // In a later tick, so that a round that wakes its own loop at once finds it running.
    this.#running = Promise.resolve().then(() => this.#rounds());
  }

  #isPaused(): boolean {
    return this.#pausedUntil !== undefined && this.#options.clock.now() < this.#pausedUntil;
  }

  /** Never later than what was due before. */
  #schedule(time: Instant): void {
    this.#cancelTimer();
    this.#dueAt = this.#dueAt === undefined ? time : minInstant(this.#dueAt, time);
    this.#cancelTimer = this.#options.clock.at(this.#dueAt, () => this.#come());
  }

  async #rounds(): Promise<void> {
    do {
      this.#wokenAgain = false;
      const startedAt = this.#options.clock.now();
      this.#dueAt = await this.#round();
      this.#pausedUntil = pauseAfter(startedAt, this.#options.clock.now());
    } while (this.#wokenAgain && !this.#isPaused() && !this.#abort.signal.aborted);
    // In the same tick as the check above: a wake-up in between would be lost.
    this.#running = undefined;
    if (!this.#abort.signal.aborted) this.#schedule(this.#wokenAgain ? this.#pausedUntil : this.#dueAt);
  }

  async #round(): Promise<Instant> {
    try {
      return await this.#options.run(this.#abort.signal);
    } catch (error) {
      return this.#options.onError(error);
    }
  }
}

function pauseAfter(startedAt: Instant, endedAt: Instant): Instant {
  // A clock that was set back is no reason to wait.
  const took = Math.max(0, secondsBetween(startedAt, endedAt));
  return addSeconds(endedAt, Math.min(MAX_PAUSE_SECONDS, took * PAUSE_FACTOR));
}

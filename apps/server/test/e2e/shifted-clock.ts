import { addSeconds, epochMs, type Instant, toInstant } from '../../src/domain/instant.ts';
import type { Clock } from '../../src/services.ts';

interface Timer {
  readonly time: Instant;
  readonly callback: () => void;
  handle: NodeJS.Timeout | undefined;
}

/**
 * The machine's time, set forward by a test. Between two shifts a second lasts a second and timers really run, so that
 * what is measured is what an operator would see.
 */
export class ShiftedClock implements Clock {
  #offsetMs = 0;
  readonly #timers = new Set<Timer>();

  now(): Instant {
    return toInstant(Date.now() + this.#offsetMs);
  }

  at(time: Instant, callback: () => void): () => void {
    const timer: Timer = { time, callback, handle: undefined };
    this.#timers.add(timer);
    this.#arm(timer);
    return () => {
      clearTimeout(timer.handle);
      this.#timers.delete(timer);
    };
  }

  shift(seconds: number): void {
    this.#offsetMs += seconds * 1000;
    for (const timer of this.#timers) this.#arm(timer);
  }

  /** Sets the clock so that `time` is so many seconds ahead. */
  shiftBefore(time: string, seconds: number): void {
    this.shift((epochMs(addSeconds(time as Instant, -seconds)) - epochMs(this.now())) / 1000);
  }

  /** Milliseconds since `time`, negative before it. */
  msSince(time: string): number {
    return epochMs(this.now()) - epochMs(time as Instant);
  }

  #arm(timer: Timer): void {
    clearTimeout(timer.handle);
    // Timers count in 32 bits; a wake-up in between arms again.
    const waitMs = Math.min(2 ** 31 - 1, Math.max(0, -this.msSince(timer.time)));
    timer.handle = setTimeout(() => this.#fire(timer), waitMs).unref();
  }

  #fire(timer: Timer): void {
    if (this.now() < timer.time) this.#arm(timer);
    else if (this.#timers.delete(timer)) timer.callback();
  }
}

import { addSeconds, type Instant } from '../src/domain/instant.ts';
import type { Clock } from '../src/services.ts';

interface Timer {
  readonly time: Instant;
  readonly callback: () => void;
}

/** Time that moves only when a test moves it; timers fire on the way. */
export class ManualClock implements Clock {
  #now: Instant;
  readonly #timers = new Set<Timer>();

  constructor(now: string) {
    this.#now = now as Instant;
  }

  now(): Instant {
    return this.#now;
  }

  at(time: Instant, callback: () => void): () => void {
    const timer = { time, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Moves time and fires what is due by then, earliest first. */
  advance(seconds: number): void {
    this.#now = addSeconds(this.#now, seconds);
    const due = [...this.#timers].filter((timer) => timer.time <= this.#now);
    for (const timer of due.toSorted((a, b) => (a.time < b.time ? -1 : 1))) {
      if (this.#timers.delete(timer)) timer.callback();
    }
  }
}

import { type Instant, secondsBetween } from '../domain/instant.ts';
import type { Clock } from '../services.ts';
import type { Logger } from './log.ts';

/** Anybody can send forged deliveries by the thousand, and a line for each would bury what matters. */
const QUIET_SECONDS = 60;

interface Told {
  readonly at: Instant;
  readonly unsaid: number;
}

/** Tells of refused deliveries: of the first at once, then once a minute of the last, and how many there were in between. */
export class RejectionLog {
  readonly #log: Pick<Logger, 'warn'>;
  readonly #clock: Clock;
  /** By provider, of which there are as many as are configured. */
  readonly #told = new Map<string, Told>();

  constructor({ log, clock }: { readonly log: Pick<Logger, 'warn'>; readonly clock: Clock }) {
    this.#log = log;
    this.#clock = clock;
  }

  add(provider: string, reason: string): void {
    const now = this.#clock.now();
    const last = this.#told.get(provider);
    if (last !== undefined && secondsBetween(last.at, now) < QUIET_SECONDS) {
      this.#told.set(provider, { at: last.at, unsaid: last.unsaid + 1 });
      return;
    }
    this.#told.set(provider, { at: now, unsaid: 0 });
    this.#log.warn({ provider, reason, unsaid: last?.unsaid ?? 0 }, 'webhook rejected');
  }
}

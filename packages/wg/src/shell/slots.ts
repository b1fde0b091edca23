import { DriverError } from '../driver.ts';

/** Lets so many callers in at a time; the others wait in line. */
export class Slots {
  #limit: number;
  #taken = 0;
  readonly #waiting = new Set<() => void>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many are in, the caller included. */
  get taken(): number {
    return this.#taken;
  }

  /** From now on no more than `limit`; at least one. */
  lower(limit: number): void {
    this.#limit = Math.max(1, Math.min(this.#limit, limit));
  }

  /** Resolves to the function that gives the slot back. @throws DriverError `timeout` */
  async take(signal: AbortSignal): Promise<() => void> {
    while (this.#taken >= this.#limit) await this.#turn(signal);
    this.#taken += 1;
    let given = false;
    return () => {
      if (given) return;
      given = true;
      this.#taken -= 1;
      this.#wakeNext();
    };
  }

  #wakeNext(): void {
    const next = this.#waiting.values().next().value;
    next?.();
  }

  #turn(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      this.#waiting.delete(wake);
      signal.removeEventListener('abort', onAbort);
    };
    const wake = () => {
      leave();
      resolve();
    };
    const onAbort = () => {
      leave();
      reject(new DriverError('timeout', 'aborted while waiting for a free channel', { cause: signal.reason }));
    };
    if (signal.aborted) onAbort();
    else {
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    }
    return promise;
  }
}

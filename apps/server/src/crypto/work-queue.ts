import { DomainError } from '../domain/errors.ts';

export interface WorkQueueOptions {
  /** Jobs that run at the same time. */
  readonly maxRunning: number;
  /** Jobs that wait for a place; one more is refused. */
  readonly maxWaiting: number;
  /** What a refused caller is told to wait. */
  readonly retryAfterSeconds: number;
}

/** Runs a bounded number of jobs at once behind a bounded queue, first come first served. */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** @throws DomainError `overloaded` when the queue is full; the job has then not run */
  async run<T>(job: () => Promise<T>): Promise<T> {
    await this.#enter();
    try {
      return await job();
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    const { maxRunning, maxWaiting, retryAfterSeconds } = this.#options;
    if (this.#running < maxRunning) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= maxWaiting) throw new DomainError('overloaded', { retryAfterSeconds });
    // The place is handed over by whoever leaves, so `running` stays as it is.
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

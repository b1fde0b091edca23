import { setTimeout as delay } from 'node:timers/promises';

/** Longer than any commit of another process takes; shorter than a client waits before it repeats the call. */
export const RETRY_BUDGET_MS = 6_000;
const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 250;

/** Waits between attempts grow and are spread out, so that writers that collided once do not collide again in step. */
export function backoffMs(attempt: number, random01: number): number {
  const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
  return Math.ceil(ceiling * (0.5 + random01 / 2));
}

export interface RetryOptions {
  /** Whether the work may simply be run again. */
  readonly isRetryable: (error: unknown) => boolean;
  readonly onRetry?: ((error: unknown, attempt: number) => void) | undefined;
}

/**
 * Runs `work` until it succeeds, fails for a reason that repeating cannot cure, or the retry budget is used up; then the
 * last error is thrown. It waits asynchronously: the process goes on serving.
 */
export async function withRetries<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const started = performance.now();
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const wait = backoffMs(attempt, Math.random());
      if (!options.isRetryable(error) || performance.now() - started + wait > RETRY_BUDGET_MS) throw error;
      options.onRetry?.(error, attempt);
      await delay(wait);
    }
  }
}

import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 40;

/**
 * Waits until `check` answers true, for real interfaces and other processes, which tell nobody when they are done.
 * Answers how many milliseconds it took.
 * @throws Error naming `what`, after `withinMs`
 */
export async function eventually(
  what: string,
  withinMs: number,
  check: () => boolean | Promise<boolean>,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    // Asked before the deadline is looked at: what is true at the end counts, however slow the question was.
    const isTrue = await check();
    const elapsedMs = performance.now() - start;
    if (isTrue) return elapsedMs;
    if (elapsedMs > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(POLL_MS);
  }
}

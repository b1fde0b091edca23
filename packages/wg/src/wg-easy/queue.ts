import { throwIfAborted } from '../driver.ts';

/** Lets one task run at a time, in the order of asking. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * A task whose signal is aborted while it waits is never begun.
   * @throws DriverError `timeout`, and whatever the task throws
   */
  async run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = before.then(() => promise);
    try {
      await firstOf(before, signal);
      throwIfAborted(signal);
      return await task();
    } finally {
      resolve();
    }
  }
}

async function firstOf(turn: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onAbort = () => resolve();
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) resolve();
  await Promise.race([turn, promise]);
  signal.removeEventListener('abort', onAbort);
}

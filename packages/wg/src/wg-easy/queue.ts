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
      await Promise.race([before, aborted(signal)]);
      throwIfAborted(signal);
      return await task();
    } finally {
      resolve();
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener('abort', () => resolve(), { once: true });
  return promise;
}

import { VpnApiError } from './errors.ts';

export interface DeadlineOptions {
  /** The caller's own signal. */
  readonly signal: AbortSignal | null | undefined;
  /** Without it only the caller's signal ends the wait. */
  readonly timeoutMs?: number;
}

/**
 * Runs `work` with a signal that fires at the deadline or with the caller's own, and rejects at that moment, whether
 * or not `work` reacts: a call inside a batch cannot be cancelled alone.
 */
export async function withDeadline<T>(
  { signal, timeoutMs }: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const controller = new AbortController();
  const stopped = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
  });
  const onAbort = (): void => controller.abort(abortError(signal?.reason));
  const timer =
    timeoutMs === undefined ? undefined : setTimeout(() => controller.abort(timeoutError(timeoutMs)), timeoutMs);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work(controller.signal), stopped]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Waits, or rejects as soon as the caller gives up. */
export function pause(delayMs: number, signal: AbortSignal | null | undefined): Promise<void> {
  throwIfAborted(signal);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortError(signal?.reason));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted === true) throw abortError(signal.reason);
}

/** A caller who passes `AbortSignal.timeout(…)` set a deadline; any other signal is a change of mind. */
function abortError(reason: unknown): VpnApiError {
  const timedOut = reason instanceof Error && reason.name === 'TimeoutError';
  if (timedOut) return new VpnApiError({ code: 'timeout', message: 'The call timed out', cause: reason });
  return new VpnApiError({ code: 'aborted', message: 'The call was aborted', cause: reason });
}

function timeoutError(timeoutMs: number): VpnApiError {
  return new VpnApiError({ code: 'timeout', message: `No answer within ${timeoutMs} ms` });
}

import type { VpnApiError } from './errors.ts';

export interface RetryPolicy {
  /** How many times a call may be repeated after its first attempt. */
  readonly retries: number;
  /** The first pause, in milliseconds; each further one doubles. */
  readonly baseDelayMs: number;
  /** No pause is longer. A server that asks for more is not asked again. */
  readonly maxDelayMs: number;
  /** 0 ≤ x < 1; spreads the clients that a restart has cut off at the same moment. */
  readonly random: () => number;
}

/**
 * How dangerous a repeat is.
 *
 * - `harmless`: a query, or a mutation that the server itself makes repeatable
 * - `keyed`: carries an `Idempotency-Key` that the server honours
 * - `unsafe`: may act twice; repeated only when it surely never left this machine
 */
export type Repeatability = 'harmless' | 'keyed' | 'unsafe';

export interface FailedAttempt {
  readonly error: VpnApiError;
  /** Repeats made so far: 0 after the first attempt. */
  readonly repeats: number;
  readonly repeatability: Repeatability;
}

/** Milliseconds to wait before the next attempt; undefined when there must be none. */
export function retryDelayMs(failed: FailedAttempt, policy: RetryPolicy): number | undefined {
  if (failed.repeats >= policy.retries || !mayRepeat(failed)) return undefined;
  const asked = failed.error.retryAfterSeconds;
  if (asked !== undefined && asked * 1000 > policy.maxDelayMs) return undefined;
  return Math.min(policy.maxDelayMs, Math.max(backoffMs(failed.repeats, policy), (asked ?? 0) * 1000));
}

/** Between half and all of the doubled pause: never at once, never all together. */
export function backoffMs(repeats: number, policy: Pick<RetryPolicy, 'baseDelayMs' | 'maxDelayMs' | 'random'>): number {
  const full = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** repeats);
  return full / 2 + (full / 2) * policy.random();
}

function mayRepeat({ error, repeatability }: FailedAttempt): boolean {
  if (repeatability === 'unsafe') return wasNeverSent(error);
  if (error.code === 'idempotency_in_progress') return repeatability === 'keyed';
  return isTransient(error);
}

const TRANSIENT_STATUS: ReadonlySet<number> = new Set([429, 502, 503, 504]);

function isTransient(error: VpnApiError): boolean {
  if (error.code === 'network_error' || error.code === 'timeout') return true;
  return error.status !== undefined && TRANSIENT_STATUS.has(error.status);
}

/** Node's names for a connection that was never made. Browsers hide the reason, so there nothing is repeated. */
const NEVER_CONNECTED: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Causes are nested: ours, then tRPC's, then `fetch failed`, then the socket's. */
const MAX_CAUSES = 5;

function wasNeverSent(error: VpnApiError): boolean {
  let cause: unknown = error;
  for (let depth = 0; depth < MAX_CAUSES && cause instanceof Error; depth += 1) {
    if ('code' in cause && NEVER_CONNECTED.has(cause.code)) return error.code === 'network_error';
    cause = cause.cause;
  }
  return false;
}

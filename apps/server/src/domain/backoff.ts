/** The longest wait between two attempts: a host that came back is used again within a minute. */
export const BACKOFF_CAP_SECONDS = 60;

/** For a host that does not answer at all: knocking costs nothing, and whoever paid meanwhile waits for its return. */
export const UNREACHABLE_CAP_SECONDS = 3;

/** The widest wait before the attempt after `attempt` failures (1, 2, …): 2, 4, 8 … up to the cap. */
export function backoffWindowSeconds(attempt: number, capSeconds = BACKOFF_CAP_SECONDS): number {
  // 2 ** 6 is past the cap already, and a count that ran for weeks must not become Infinity.
  return Math.min(capSeconds, 2 ** Math.min(Math.max(1, attempt), 6));
}

/**
 * Whole seconds to wait after `attempt` failures: exponential with full jitter, so that a thousand peers of one host do
 * not come back in the same second. At least 1, or a jitter of zero would be a busy loop.
 *
 * @param random01 a random number in [0, 1)
 */
export function backoffSeconds(attempt: number, random01: number, capSeconds = BACKOFF_CAP_SECONDS): number {
  return Math.max(1, Math.ceil(random01 * backoffWindowSeconds(attempt, capSeconds)));
}

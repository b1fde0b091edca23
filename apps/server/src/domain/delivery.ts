import { addSeconds, DAY_SECONDS, type Instant, maxInstant, minInstant } from './instant.ts';

/** Pauses before each further attempt, in seconds: what Standard Webhooks recommends, as far as they fit into a day. */
const PAUSES = [5, 300, 1_800, 7_200, 18_000, 36_000] as const;
/** For how long an event is tried: what a receiver did not take in a day waits for a person. */
const GIVE_UP_SECONDS = DAY_SECONDS;
/** A receiver may ask for more patience, within reason. */
const MAX_RETRY_AFTER_SECONDS = 3_600;

/** What came of one attempt to deliver an event. */
export type Attempt =
  | { readonly kind: 'delivered'; readonly status: number }
  /** 410: the receiver wants nothing any more. */
  | { readonly kind: 'gone'; readonly status: number }
  | {
      readonly kind: 'failed';
      /** Undefined when no answer came. */
      readonly status?: number | undefined;
      /** In a few words, for the delivery log; nothing of the answer. */
      readonly error: string;
      readonly retryAfterSeconds?: number | undefined;
    };

export interface FailedAttempt {
  /** Of this event, this one included. */
  readonly attempts: number;
  readonly now: Instant;
  /** Since when the event is to be delivered. */
  readonly waitingSince: string;
  /** Since when its endpoint has taken nothing. */
  readonly failingSince: string;
  readonly retryAfterSeconds?: number | undefined;
}

/**
 * When an event is sent again after a failed attempt; undefined when it is given up, after a last attempt a day after the
 * first. Events that waited behind it for that day are given up after one more attempt each, or an endpoint that never
 * recovers would lose one a day and pile up all the others; one that just began to fail has its day, however old the event.
 */
export function nextDeliveryAt(attempt: FailedAttempt): Instant | undefined {
  const { attempts, now, waitingSince, failingSince, retryAfterSeconds = 0 } = attempt;
  const lastAt = addSeconds(maxInstant(waitingSince, failingSince), GIVE_UP_SECONDS);
  if (now >= lastAt) return undefined;
  const pause = PAUSES[attempts - 1] ?? PAUSES[PAUSES.length - 1] ?? 0;
  const next = addSeconds(now, Math.max(pause, Math.min(retryAfterSeconds, MAX_RETRY_AFTER_SECONDS)));
  return minInstant(next, lastAt);
}

/** For how long an endpoint's last secret signs beside its new one. */
export const SECRET_OVERLAP_SECONDS = DAY_SECONDS;

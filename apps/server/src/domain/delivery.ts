import { addSeconds, DAY_SECONDS, type Instant } from './instant.ts';

/** Pauses before each further attempt, in seconds: what Standard Webhooks recommends, ending a day after the first. */
const PAUSES = [5, 300, 1_800, 7_200, 18_000, 36_000, 23_095] as const;
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

/**
 * When an event whose `attempts`-th attempt failed at `now` is sent again; undefined when it is given up, a day after the
 * first attempt.
 */
export function nextDeliveryAt(attempts: number, now: Instant, retryAfterSeconds = 0): Instant | undefined {
  const pause = PAUSES[attempts - 1];
  if (pause === undefined) return undefined;
  return addSeconds(now, Math.max(pause, Math.min(retryAfterSeconds, MAX_RETRY_AFTER_SECONDS)));
}

/** For how long an endpoint's last secret signs beside its new one. */
export const SECRET_OVERLAP_SECONDS = DAY_SECONDS;

import { addSeconds, DAY_SECONDS, type Instant, secondsBetween } from './instant.ts';
import type { PaymentStatus } from './payment.ts';

/**
 * What has ended is asked about once a day for this long: money is taken back at the provider too, comes late to a payment
 * that had failed, and comes again a month later where the customer subscribed there.
 */
const WATCH_SECONDS = 35 * DAY_SECONDS;

const RETRY_SECONDS = 10;
const MAX_RETRY_SECONDS = 3600;

export interface PolledPayment {
  readonly status: PaymentStatus;
  readonly created_at: string;
  /** When money came last, the first or a further charge. */
  readonly last_charge_at: string | null;
}

export interface Schedule {
  readonly now: string;
  /** Ages at which a payment is read again; the last repeats. */
  readonly pollSeconds: readonly number[];
  /** The provider has said how the payment ended, as far as it can know now. */
  readonly isFinal?: boolean;
}

/** When a payment made now is asked about first, if nothing is heard of it. */
export function firstPollAt(createdAt: string, pollSeconds: readonly number[]): Instant {
  return addSeconds(createdAt, pollSeconds[0] ?? DAY_SECONDS);
}

/** When a payment is read from its provider again; null when there is nothing more to learn. */
export function nextPollAt(payment: PolledPayment, schedule: Schedule): Instant | null {
  const { now, isFinal = false } = schedule;
  if (payment.status === 'refunded') return null;
  const isOpen = payment.status === 'pending' || payment.status === 'failed';
  if (isOpen && !isFinal) return nextByAge(payment, schedule);
  const since = payment.last_charge_at ?? payment.created_at;
  return secondsBetween(since, now) < WATCH_SECONDS ? addSeconds(now, DAY_SECONDS) : null;
}

function nextByAge({ created_at }: PolledPayment, { now, pollSeconds }: Schedule): Instant {
  const next = pollSeconds.map((age) => addSeconds(created_at, age)).find((at) => at > now);
  return next ?? addSeconds(now, pollSeconds.at(-1) ?? DAY_SECONDS);
}

/** When to try again after `attempts` (1, 2, …) attempts that brought nothing: 10 s, 20 s, … an hour. */
export function retryAt(now: string, attempts: number): Instant {
  return addSeconds(now, Math.min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2 ** Math.min(Math.max(0, attempts - 1), 12)));
}

import {
  purgeIdempotencyKeys,
  purgeOutboxEvents,
  purgePeerUsage,
  purgeSessions,
  purgeWebhookDeliveries,
  type Queryable,
  releaseRestedAddresses,
} from '@vpn-api/db';
import { ADDRESS_REST_SECONDS } from '../domain/address.ts';
import { addSeconds, DAY_SECONDS, type Instant } from '../domain/instant.ts';
import { utcDay } from '../domain/traffic.ts';
import type { Services, Waker } from '../services.ts';
import { Loop } from './loop.ts';

const INTERVAL_SECONDS = 60;
/** An ended login is kept this long, so that the late reuse of a stolen token is still seen as one. */
const KEEP_SESSIONS_SECONDS = DAY_SECONDS;
/** For how long `GET /events` and the delivery logs look back, and what a disabled endpoint finds when it goes on. */
const KEEP_EVENTS_SECONDS = 30 * DAY_SECONDS;
/** What could not be delivered waits for a person this long: without an end a receiver that is gone fills the disk. */
const KEEP_DEAD_SECONDS = 90 * DAY_SECONDS;
/** Notices of expiry go up to a year ahead, and each is told once for its end. */
const KEEP_ONCE_SECONDS = 400 * DAY_SECONDS;
/** Daily traffic: a year and a month, so that a month can be compared with the same one of the year before. */
const KEEP_USAGE_SECONDS = 400 * DAY_SECONDS;

/** Deletes what has run out, and frees the addresses that have rested. */
export class Housekeeping implements Waker, AsyncDisposable {
  readonly #loop: Loop;

  constructor({ store, clock, log }: Pick<Services, 'store' | 'clock' | 'log'>) {
    const next = (): Instant => addSeconds(clock.now(), INTERVAL_SECONDS);
    this.#loop = new Loop({
      clock,
      run: async (signal) => {
        await tidy(store, clock.now(), signal);
        return next();
      },
      onError: (error) => {
        log.error({ err: error }, 'housekeeping failed');
        return next();
      },
    });
  }

  wake(): void {
    this.#loop.wake();
  }

  idle(): Promise<void> {
    return this.#loop.idle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#loop[Symbol.asyncDispose]();
  }
}

async function tidy(q: Queryable, now: Instant, signal: AbortSignal): Promise<void> {
  await releaseRestedAddresses(q, addSeconds(now, -ADDRESS_REST_SECONDS));
  await untilNone(() => purgeIdempotencyKeys(q, now), signal);
  await untilNone(() => purgeSessions(q, addSeconds(now, -KEEP_SESSIONS_SECONDS)), signal);
  const before = addSeconds(now, -KEEP_EVENTS_SECONDS);
  const deadBefore = addSeconds(now, -KEEP_DEAD_SECONDS);
  await untilNone(() => purgeWebhookDeliveries(q, { before, deadBefore }), signal);
  await untilNone(() => purgeOutboxEvents(q, { before, onceBefore: addSeconds(now, -KEEP_ONCE_SECONDS) }), signal);
  await untilNone(() => purgePeerUsage(q, utcDay(addSeconds(now, -KEEP_USAGE_SECONDS))), signal);
}

/** Some hundred rows at a time: one statement for all would hold up every writer of an embedded database. */
async function untilNone(purge: () => Promise<number>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await purge()) > 0);
}

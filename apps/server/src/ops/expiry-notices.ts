import { findNextEnd, getSetting, listUsersWithEnds, lockUser, putSetting, type TimeSpan } from '@vpn-api/db';
import { dueNotice } from '../domain/expiry-notice.ts';
import { addSeconds, epochMs, type Instant, minInstant, parseInstant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';
import { loadChain } from './subscription-chain.ts';
import { subscriptionEventData } from './tell-money.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'outbox'>;

/** Where the last round stopped, so that a server that was down tells what it missed. */
const TOLD_UNTIL = 'expiry_notices_told_until';
/** Ends further back are no news any more: also for a database that never told before. */
const LOOK_BACK_SECONDS = 7 * 86_400;
/**
 * A refund moves an end into a time that was told already, and is written a moment after it was decided: everything ahead
 * and what ended since the last time but one is looked at again this often.
 */
const SWEEP_SECONDS = 3_600;

/**
 * Tells what is due: `subscription.expiring` at each configured number of hours before the end of paid time, and
 * `subscription.expired` when it has come. Each at most once for an end. Answers when the next one is due.
 */
export async function tellExpiries(deps: Deps): Promise<Instant> {
  const { store, clock, config } = deps;
  const now = clock.now();
  const since = await toldUntil(deps, now);
  const hours = config.expiryNoticeHours;
  const isSweep = sweepNumber(since) !== sweepNumber(now);
  const spans = isSweep ? [sweepSpan(hours, since, now)] : dueSpans(hours, since, now);
  const userIds = new Set<number>();
  for (const span of spans) for (const id of await listUsersWithEnds(store, span)) userIds.add(id);
  for (const userId of userIds) await tellUser(deps, userId, now);
  await putSetting(store, TOLD_UNTIL, now);
  return nextMoment(deps, now);
}

async function toldUntil({ store }: Deps, now: Instant): Promise<Instant> {
  const earliest = addSeconds(now, -LOOK_BACK_SECONDS);
  const stored = await getSetting(store, TOLD_UNTIL);
  const since = (stored === undefined ? undefined : parseInstant(stored)) ?? earliest;
  // A clock that was ahead and was put right leaves a mark in the future.
  return since < earliest || since > now ? earliest : since;
}

function sweepNumber(at: Instant): number {
  return Math.floor(epochMs(at) / 1000 / SWEEP_SECONDS);
}

/** Ends that came, and ends that came within one of the distances, since the last round. */
function dueSpans(hours: readonly number[], since: Instant, now: Instant): TimeSpan[] {
  return [0, ...hours].map((before) => ({
    after: addSeconds(since, before * 3_600),
    upTo: addSeconds(now, before * 3_600),
  }));
}

function sweepSpan(hours: readonly number[], since: Instant, now: Instant): TimeSpan {
  return { after: addSeconds(since, -SWEEP_SECONDS), upTo: addSeconds(now, Math.max(0, ...hours) * 3_600) };
}

async function tellUser(deps: Deps, userId: number, now: Instant): Promise<void> {
  await deps.store.transaction(async (tx) => {
    const user = await lockUser(tx, userId);
    if (user === undefined || user.removed_at !== null) return;
    const notice = dueNotice(await loadChain(tx, userId), now, deps.config.expiryNoticeHours);
    if (notice === undefined) return;
    const { last, endsAt } = notice;
    const isNear = notice.kind === 'expiring';
    await emitEvent(deps, tx, {
      type: isNear ? 'subscription.expiring' : 'subscription.expired',
      userId,
      data: { ...subscriptionEventData(last), ends_at: endsAt },
      dedupeKey: isNear ? `expiring:${userId}:${endsAt}:${notice.hours}` : `expired:${userId}:${endsAt}`,
    });
  });
}

async function nextMoment({ store, config }: Deps, now: Instant): Promise<Instant> {
  let next = addSeconds(now, SWEEP_SECONDS);
  for (const before of [0, ...config.expiryNoticeHours]) {
    const end = await findNextEnd(store, addSeconds(now, before * 3_600));
    if (end !== undefined) next = minInstant(next, addSeconds(end, -before * 3_600));
  }
  return next;
}

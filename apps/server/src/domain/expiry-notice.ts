import { addSeconds, type Instant } from './instant.ts';
import { type FoldedPeriod, type PeriodFacts, subscriptionAt } from './subscription.ts';

/** What a customer is to be told about the end of his paid time. */
export type ExpiryNotice<P extends PeriodFacts> =
  | { readonly kind: 'expiring'; readonly hours: number; readonly last: FoldedPeriod<P>; readonly endsAt: Instant }
  | { readonly kind: 'expired'; readonly last: FoldedPeriod<P>; readonly endsAt: Instant };

/**
 * What is due at `now` for one chain of periods, `hours` being how long before the end it is told. Of several that were
 * missed only the nearest is left, and none whose moment had passed when the last period was granted. A chain that was
 * taken back is not told of: whoever did that has told.
 */
export function dueNotice<P extends PeriodFacts>(
  chain: readonly FoldedPeriod<P>[],
  now: Instant,
  hours: readonly number[],
): ExpiryNotice<P> | undefined {
  const { status, ended_at: endsAt } = subscriptionAt(chain, now);
  // A period that gives no time, as a renewal that was paid back, ends there too.
  const last = chain.findLast((period) => period.ends_at === endsAt && period.starts_at !== endsAt);
  if (endsAt === null || last === undefined || last.revoked_at !== null) return undefined;
  if (status === 'expired' || status === 'grace') return { kind: 'expired', last, endsAt };
  if (status !== 'active') return undefined;
  const nearest = hours
    .filter((before) => isDue(addSeconds(endsAt, -before * 3_600), last, now))
    .toSorted((a, b) => a - b)[0];
  return nearest === undefined ? undefined : { kind: 'expiring', hours: nearest, last, endsAt };
}

function isDue(moment: Instant, last: PeriodFacts, now: Instant): boolean {
  return moment <= now && moment > last.granted_at;
}

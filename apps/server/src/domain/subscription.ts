import { addSeconds, DAY_SECONDS, epochMs, type Instant, LAST_INSTANT, maxInstant, secondsBetween } from './instant.ts';
import { formatAmount, proportion } from './money.ts';

export type PeriodSource = 'payment' | 'admin' | 'trial' | 'import';

/** What the fold reads of a `subscription_periods` row: the facts. `starts_at` and `ends_at` follow from them. */
export interface PeriodFacts {
  readonly id: number;
  readonly seq: number;
  readonly granted_at: string;
  /** null is a lifetime. */
  readonly length_seconds: number | null;
  readonly cut_seconds: number;
  /** Set when all that was left of the period was taken back: a full refund or an admin's revoke. */
  readonly revoked_at: string | null;
  readonly grace_days: number;
  readonly device_limit: number;
  readonly traffic_limit_bytes: number | null;
}

/** A period with its place in the chain. `ends_at` is null for a lifetime that lasts. */
export type FoldedPeriod<P extends PeriodFacts = PeriodFacts> = Omit<P, 'starts_at' | 'ends_at'> & {
  readonly starts_at: Instant;
  readonly ends_at: Instant | null;
};

/**
 * Places periods one behind the other, in order of `seq`: a period starts when it was granted or when the one before it
 * ends, whichever is later, and lasts its length less what was cut. Pure function of the rows, in any order, so the
 * derived columns can be recomputed at any time.
 *
 * A period behind a lasting lifetime waits: it starts and ends at `LAST_INSTANT` and covers nothing, and takes its place
 * when the lifetime is revoked.
 */
export function foldPeriods<P extends PeriodFacts>(periods: readonly P[]): FoldedPeriod<P>[] {
  const folded: FoldedPeriod<P>[] = [];
  let chainEnd: Instant | undefined;
  for (const period of periods.toSorted((a, b) => a.seq - b.seq)) {
    const startsAt = maxInstant(period.granted_at, chainEnd ?? period.granted_at);
    const endsAt = endOf(period, startsAt);
    folded.push({ ...period, starts_at: startsAt, ends_at: endsAt });
    chainEnd = endsAt ?? LAST_INSTANT;
  }
  return folded;
}

function endOf(period: PeriodFacts, startsAt: Instant): Instant | null {
  if (period.length_seconds !== null) {
    return addSeconds(startsAt, Math.max(0, period.length_seconds - period.cut_seconds));
  }
  return period.revoked_at === null ? null : maxInstant(startsAt, period.revoked_at);
}

/** A row that also carries the derived columns, as stored. */
export interface StoredPeriod extends PeriodFacts {
  readonly starts_at: string;
  readonly ends_at: string | null;
}

/** The folded periods whose stored `starts_at` or `ends_at` differ from the fold: the rows to rewrite. */
export function misplacedPeriods<P extends StoredPeriod>(rows: readonly P[]): FoldedPeriod<P>[] {
  const stored = new Map(rows.map((row) => [row.seq, row]));
  return foldPeriods(rows).filter((period) => {
    const row = stored.get(period.seq);
    return row?.starts_at !== period.starts_at || row.ends_at !== period.ends_at;
  });
}

export type SubscriptionStatus = 'active' | 'grace' | 'expired' | 'revoked' | 'none';

export interface SubscriptionState<P extends PeriodFacts = PeriodFacts> {
  /** `none`: there was never a period. `revoked`: the last one in force was taken back, so it leaves no grace either. */
  readonly status: SubscriptionStatus;
  /** The period in force. When none is: the last one that was, or the newest row if none ever was. */
  readonly current: FoldedPeriod<P> | undefined;
  readonly started_at: Instant | null;
  /** End of the paid time of the whole chain, without grace. null for a lifetime, or with status `none`. */
  readonly ended_at: Instant | null;
  /** When access stops if nothing else happens: `ended_at` and the grace after it. null for a lifetime. */
  readonly access_until: Instant | null;
  readonly is_lifetime: boolean;
  /** Whole days to `ended_at`, 0 once it passed. null for a lifetime. */
  readonly days_remaining: number | null;
}

/** What a chain of periods means at `now`. */
export function subscriptionAt<P extends PeriodFacts>(
  folded: readonly FoldedPeriod<P>[],
  now: string,
): SubscriptionState<P> {
  const effective = folded.filter(coversTime);
  const latest = latestStarted(effective, now);
  const chainEnd = effective.at(-1);
  const isLifetime = hasLifetime(folded);
  const endedAt = isLifetime ? null : (chainEnd?.ends_at ?? folded.at(-1)?.ends_at ?? null);
  const current = latest ?? folded.at(-1);
  return {
    status: statusAt(folded, latest, now),
    current,
    started_at: current?.starts_at ?? null,
    ended_at: endedAt,
    access_until: isLifetime ? null : chainEnd === undefined ? endedAt : graceEnd(chainEnd),
    is_lifetime: isLifetime,
    days_remaining: isLifetime ? null : endedAt === null ? 0 : wholeDays(now, endedAt),
  };
}

function statusAt(folded: readonly FoldedPeriod[], latest: FoldedPeriod | undefined, now: string): SubscriptionStatus {
  if (latest === undefined) return folded.some(isRevoked) ? 'revoked' : 'none';
  if (isRevoked(latest)) return 'revoked';
  if (latest.ends_at === null || epochMs(now) < epochMs(latest.ends_at)) return 'active';
  const graceUntil = graceEnd(latest);
  return graceUntil !== null && epochMs(now) < epochMs(graceUntil) ? 'grace' : 'expired';
}

/**
 * The newest period that has begun. Cuts are whole seconds, rounded so that used time is never taken back, so a revoked
 * period has a tail of less than a second: in it the next one is already in force, and there is no gap for the hosts to
 * act on.
 */
function latestStarted<P extends PeriodFacts>(
  effective: readonly FoldedPeriod<P>[],
  now: string,
): FoldedPeriod<P> | undefined {
  const index = effective.findLastIndex((period) => epochMs(period.starts_at) <= epochMs(now));
  const latest = effective[index];
  const next = effective[index + 1];
  const isInTail = latest !== undefined && isRevoked(latest) && latest.ends_at === next?.starts_at;
  return isInTail && !isRevoked(next) ? next : latest;
}

function coversTime(period: FoldedPeriod): boolean {
  return period.ends_at === null || epochMs(period.ends_at) > epochMs(period.starts_at);
}

function isRevoked(period: PeriodFacts): boolean {
  return period.revoked_at !== null;
}

function graceEnd(period: FoldedPeriod): Instant | null {
  if (period.ends_at === null || isRevoked(period)) return period.ends_at;
  return addSeconds(period.ends_at, period.grace_days * DAY_SECONDS);
}

function wholeDays(from: string, to: string): number {
  return Math.max(0, Math.floor(secondsBetween(from, to) / DAY_SECONDS));
}

/** True when the chain has a lifetime that was not revoked: nothing can be sold on top of it. */
export function hasLifetime(folded: readonly FoldedPeriod[]): boolean {
  return folded.some((period) => period.ends_at === null);
}

/** The first moment after `now` at which `subscriptionAt` can answer something else; null if time alone changes nothing. */
export function nextChangeAt(folded: readonly FoldedPeriod[], now: string): Instant | null {
  const moments = folded
    .filter(coversTime)
    .flatMap((period) => [period.starts_at, period.ends_at, graceEnd(period)])
    .filter((moment) => moment !== null)
    .filter((moment) => epochMs(moment) > epochMs(now));
  return moments.toSorted()[0] ?? null;
}

/** What a change to a period writes to its row. */
export interface PeriodCut {
  readonly cut_seconds: number;
  readonly revoked_at: Instant | null;
}

export interface Refunded {
  /** All that went back so far, this time included. */
  readonly refundedMinor: number;
  readonly paidMinor: number;
  readonly at: string;
}

/**
 * What a refund takes from the period it paid for: the refunded share of its length, but never time already used, and
 * never giving back what was cut before. A full refund takes all that is left. A lifetime ends with a full refund; a
 * partial one leaves it as it is, and the caller flags the payment.
 */
export function refundCut(period: FoldedPeriod, refund: Refunded): PeriodCut {
  if (refund.refundedMinor >= refund.paidMinor) return revokeCut(period, refund.at);
  if (period.length_seconds === null) return unchanged(period);
  const target = proportion(period.length_seconds, refund.refundedMinor, refund.paidMinor);
  return { ...unchanged(period), cut_seconds: largerCut(period, target, refund.at) };
}

/** What taking back all that is left of a period at `at` writes. Repeating it later changes nothing. */
export function revokeCut(period: FoldedPeriod, at: string): PeriodCut {
  const revokedAt = (period.revoked_at ?? at) as Instant;
  if (period.length_seconds === null) return { cut_seconds: period.cut_seconds, revoked_at: revokedAt };
  return { cut_seconds: largerCut(period, period.length_seconds, at), revoked_at: revokedAt };
}

function unchanged(period: FoldedPeriod): PeriodCut {
  return { cut_seconds: period.cut_seconds, revoked_at: period.revoked_at as Instant | null };
}

function largerCut(period: FoldedPeriod, target: number, at: string): number {
  const length = period.length_seconds ?? 0;
  // Up to the next whole second: rounding down would move an end into the past.
  const used = Math.min(length, Math.max(0, Math.ceil(secondsBetween(period.starts_at, at))));
  return Math.max(period.cut_seconds, Math.min(target, length - used));
}

/** What a tariff gives, as sold: stored with the payment and copied into the period. */
export interface TariffTerms {
  readonly tariff_id: number | null;
  readonly tariff_name: string;
  /** null is a lifetime. */
  readonly duration_days: number | null;
  readonly device_limit: number;
  readonly traffic_limit_bytes: number | null;
  readonly grace_days: number;
}

/** Where a period comes from. */
export interface PeriodOrigin {
  readonly source: PeriodSource;
  readonly payment_id: number | null;
  readonly price_minor: number;
  readonly currency: string;
  readonly reason: string | null;
}

/** The columns of a `subscription_periods` row to insert, apart from id, user and creation time. */
export interface NewPeriod extends TariffTerms, PeriodOrigin {
  readonly seq: number;
  readonly granted_at: Instant;
  readonly length_seconds: number | null;
  readonly cut_seconds: number;
  readonly revoked_at: null;
  readonly starts_at: Instant;
  readonly ends_at: Instant | null;
}

/** The period that a grant of `terms` at `now` adds to the end of a user's chain. */
export function appendPeriod(
  existing: readonly PeriodFacts[],
  grant: { readonly terms: TariffTerms; readonly origin: PeriodOrigin; readonly now: string },
): NewPeriod {
  const { terms, origin, now } = grant;
  const facts = {
    id: 0,
    seq: existing.reduce((highest, period) => Math.max(highest, period.seq), 0) + 1,
    granted_at: now as Instant,
    length_seconds: terms.duration_days === null ? null : terms.duration_days * DAY_SECONDS,
    cut_seconds: 0,
    revoked_at: null,
    tariff_id: terms.tariff_id,
    tariff_name: terms.tariff_name,
    duration_days: terms.duration_days,
    device_limit: terms.device_limit,
    traffic_limit_bytes: terms.traffic_limit_bytes,
    grace_days: terms.grace_days,
    source: origin.source,
    payment_id: origin.payment_id,
    price_minor: origin.price_minor,
    currency: origin.currency,
    reason: origin.reason,
  } satisfies PeriodFacts & Omit<NewPeriod, 'starts_at' | 'ends_at'>;
  const last = foldPeriods<PeriodFacts>([...existing, facts]).at(-1);
  const { id: _, ...row } = facts;
  return { ...row, starts_at: last?.starts_at ?? facts.granted_at, ends_at: last?.ends_at ?? null };
}

/** The terms of a compensation of `days`: those of the period it lengthens. */
export function compensationTerms(period: TariffTerms, days: number): TariffTerms {
  return {
    tariff_id: period.tariff_id,
    tariff_name: period.tariff_name,
    duration_days: days,
    device_limit: period.device_limit,
    traffic_limit_bytes: period.traffic_limit_bytes,
    grace_days: period.grace_days,
  };
}

/** A period row with all that the view of a subscription shows. */
export interface PeriodRecord extends PeriodFacts {
  readonly user_id: number;
  readonly tariff_id: number | null;
  readonly tariff_name: string;
  readonly duration_days: number | null;
  readonly price_minor: number;
  readonly currency: string;
  readonly source: PeriodSource;
  readonly payment_id: number | null;
}

export interface PeriodView {
  readonly id: number;
  readonly tariff_id: number | null;
  readonly starts_at: Instant;
  readonly ends_at: Instant | null;
  readonly source: PeriodSource;
  readonly payment_id: number | null;
  readonly revoked_at: Instant | null;
}

/** The wire object `Subscription`. */
export interface SubscriptionView {
  readonly id: number;
  readonly user_id: number;
  readonly tariff_id: number | null;
  readonly tariff_name: string;
  readonly status: Exclude<SubscriptionStatus, 'none'>;
  readonly duration_days: number | null;
  readonly price: string;
  readonly currency: string;
  readonly started_at: Instant;
  readonly ended_at: Instant | null;
  readonly days_remaining: number | null;
  readonly is_lifetime: boolean;
  readonly periods: PeriodView[];
}

/**
 * One user's chain as the API shows it, or null when nothing is active or in grace. With `includeEnded` a chain that is
 * over is shown too, as `expired` or `revoked`.
 */
export function subscriptionView(
  folded: readonly FoldedPeriod<PeriodRecord>[],
  now: string,
  options: { readonly includeEnded?: boolean } = {},
): SubscriptionView | null {
  const { status, current, ended_at, days_remaining, is_lifetime } = subscriptionAt(folded, now);
  if (current === undefined || status === 'none') return null;
  if (!options.includeEnded && status !== 'active' && status !== 'grace') return null;
  return {
    id: current.id,
    user_id: current.user_id,
    tariff_id: current.tariff_id,
    tariff_name: current.tariff_name,
    status,
    duration_days: current.duration_days,
    price: formatAmount(current.price_minor, current.currency),
    currency: current.currency,
    started_at: current.starts_at,
    ended_at,
    days_remaining,
    is_lifetime,
    periods: folded.map(periodView),
  };
}

function periodView(period: FoldedPeriod<PeriodRecord>): PeriodView {
  return {
    id: period.id,
    tariff_id: period.tariff_id,
    starts_at: period.starts_at,
    ends_at: period.ends_at,
    source: period.source,
    payment_id: period.payment_id,
    revoked_at: period.revoked_at as Instant | null,
  };
}

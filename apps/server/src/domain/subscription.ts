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
  /** Unused time that follows later, in the periods whose `rest_of_id` names this one: another tariff started at once. */
  readonly moved_seconds: number;
  /** The period whose unused time this one is. */
  readonly rest_of_id: number | null;
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
 * ends, whichever is later, and lasts its length less what was cut or moved. Pure function of the rows, in any order, so the
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
    return addSeconds(startsAt, Math.max(0, spanSeconds(period)));
  }
  return period.revoked_at === null ? null : maxInstant(startsAt, period.revoked_at);
}

/** How long a finite period lasts. */
function spanSeconds({ length_seconds, cut_seconds, moved_seconds }: PeriodFacts): number {
  return (length_seconds ?? 0) - cut_seconds - moved_seconds;
}

/** Seconds of a finite period that have passed at `at`, up to the next whole one: rounding down would move an end into the past. */
function usedSeconds(period: FoldedPeriod, at: string): number {
  return Math.min(spanSeconds(period), Math.max(0, Math.ceil(secondsBetween(period.starts_at, at))));
}

/** Seconds of a finite period that nobody has used at `at`. */
function unusedSeconds(period: FoldedPeriod, at: string): number {
  return spanSeconds(period) - usedSeconds(period, at);
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
 * The newest period that has begun. Cuts and moves are whole seconds, rounded so that used time is never taken back, so a
 * period that was ended early has a tail of less than a second: in it the next one is already in force, and there is no
 * gap for the hosts to act on.
 */
function latestStarted<P extends PeriodFacts>(
  effective: readonly FoldedPeriod<P>[],
  now: string,
): FoldedPeriod<P> | undefined {
  const index = effective.findLastIndex((period) => epochMs(period.starts_at) <= epochMs(now));
  const latest = effective[index];
  const next = effective[index + 1];
  const isInTail = latest !== undefined && wasEndedEarly(latest) && latest.ends_at === next?.starts_at;
  return isInTail && !isRevoked(next) ? next : latest;
}

function coversTime(period: FoldedPeriod): boolean {
  return period.ends_at === null || epochMs(period.ends_at) > epochMs(period.starts_at);
}

function isRevoked(period: PeriodFacts): boolean {
  return period.revoked_at !== null;
}

function wasEndedEarly(period: PeriodFacts): boolean {
  return isRevoked(period) || period.moved_seconds > 0;
}

/** When the grace after a period ends; a period that was taken back has none. null for a lifetime. */
export function graceEnd(period: FoldedPeriod): Instant | null {
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

/** The change to one of the periods that a payment bought. */
export interface PieceCut extends PeriodCut {
  readonly period_id: number;
}

/**
 * The period that a payment bought and, wherever a change of tariff put them, the rests of it, in order of the chain.
 * Empty when the payment bought nothing.
 */
export function piecesOf<P extends PeriodFacts & { readonly payment_id: number | null }>(
  folded: readonly P[],
  paymentId: number,
): P[] {
  return folded.filter((period) => soldPeriod(period, folded).payment_id === paymentId);
}

/**
 * What a refund takes from what its payment bought, in `pieces` as `piecesOf` gives them: the refunded share of the
 * length that was sold, but never time already used, and never giving back what was cut before. A full refund takes all
 * that is left. A lifetime ends with a full refund; a partial one leaves it as it is, and the caller flags the payment.
 */
export function refundCuts(pieces: readonly FoldedPeriod[], refund: Refunded): PieceCut[] {
  if (refund.refundedMinor >= refund.paidMinor) {
    return pieces.map((piece) => ({ period_id: piece.id, ...revokeCut(piece, refund.at) }));
  }
  const sold = pieces.find(({ rest_of_id }) => rest_of_id === null)?.length_seconds ?? 0;
  const taken = pieces.reduce((sum, piece) => sum + piece.cut_seconds, 0);
  return cutFromTheEnd(pieces, {
    seconds: proportion(sold, refund.refundedMinor, refund.paidMinor) - taken,
    at: refund.at,
  });
}

function cutFromTheEnd(
  pieces: readonly FoldedPeriod[],
  { seconds, at }: { readonly seconds: number; readonly at: string },
): PieceCut[] {
  const cuts: PieceCut[] = [];
  let wanted = seconds;
  for (const piece of pieces.toReversed()) {
    const more = Math.min(wanted, piece.length_seconds === null ? 0 : unusedSeconds(piece, at));
    if (more <= 0) continue;
    const revoked_at = piece.revoked_at as Instant | null;
    cuts.unshift({ period_id: piece.id, cut_seconds: piece.cut_seconds + more, revoked_at });
    wanted -= more;
  }
  return cuts;
}

/** What taking back all that is left of a period at `at` writes. Repeating it later changes nothing. */
export function revokeCut(period: FoldedPeriod, at: string): PeriodCut {
  const revokedAt = (period.revoked_at ?? at) as Instant;
  const unused = period.length_seconds === null ? 0 : unusedSeconds(period, at);
  return { cut_seconds: period.cut_seconds + unused, revoked_at: revokedAt };
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
  readonly moved_seconds: number;
  readonly rest_of_id: number | null;
  /** A rest goes on with the traffic that was counted for what it is a rest of. */
  readonly used_bytes: number;
  readonly revoked_at: null;
  readonly starts_at: Instant;
  readonly ends_at: Instant | null;
}

/** `extend`: behind all that is there. `now`: at once, if it is another tariff than the running one. */
export type Apply = 'now' | 'extend';

interface Grant {
  readonly terms: TariffTerms;
  readonly origin: PeriodOrigin;
  readonly now: string;
  /** What a refund took before there was a period. */
  readonly cut_seconds?: number | undefined;
}

/** The period that a grant of `terms` at `now` adds to the end of a user's chain. */
export function appendPeriod(existing: readonly PeriodFacts[], grant: Grant): NewPeriod {
  return withPlaces(existing, { period: grantedRow(grant, nextSeq(existing)), moves: [], requeued: [] }).period;
}

/** A period as far as its rest takes it along. */
export interface MovablePeriod extends PeriodFacts, TariffTerms, Omit<PeriodOrigin, 'payment_id'> {
  readonly used_bytes: number;
}

/** Unused time that leaves a period that has begun and comes again as another, behind what starts at once. */
export interface PeriodMove {
  readonly period_id: number;
  /** All that has left the period, this time included. */
  readonly moved_seconds: number;
  readonly rest: NewPeriod;
}

/** What a grant writes: its period, and what makes room for it. */
export interface Placement {
  readonly period: NewPeriod;
  /** Of periods that have begun. */
  readonly moves: readonly PeriodMove[];
  /** Periods that have not begun only take a later place. Written before the new rows, in this order. */
  readonly requeued: readonly { readonly period_id: number; readonly seq: number }[];
}

/**
 * Places a grant in a user's chain. With `now` another tariff than the running one starts at once, and the unused time of
 * what was running or queued follows it in the order it had; the same tariff, and anything when nothing is running, goes
 * to the end.
 */
export function placeGrant(
  existing: readonly MovablePeriod[],
  { apply, ...grant }: Grant & { readonly apply: Apply },
): Placement {
  const folded = foldPeriods(existing);
  if (effectiveApply(folded, { ...grant, apply }) === 'extend') {
    return { period: appendPeriod(existing, grant), moves: [], requeued: [] };
  }
  const seq = nextSeq(existing);
  const behind = folded
    .filter((period) => hasUnused(period, grant.now))
    .map((period, index) => ({ period, seq: seq + 1 + index, unused: unusedSeconds(period, grant.now) }));
  const begun = behind.filter(({ period }) => usedSeconds(period, grant.now) > 0);
  const requeued = behind
    .filter(({ period }) => usedSeconds(period, grant.now) === 0)
    .map(({ period, seq: place }) => ({ period_id: period.id, seq: place }));
  const moves = begun.map(({ period, seq: place, unused }) => ({
    period_id: period.id,
    moved_seconds: period.moved_seconds + unused,
    rest: restRow(period, { now: grant.now, seq: place, length_seconds: unused }),
  }));
  return withPlaces(existing, { period: grantedRow(grant, seq), moves, requeued });
}

/** The chain as it is once a placement is written. New periods have the id 0. */
export function afterPlacement<P extends PeriodFacts>(
  existing: readonly P[],
  { period, moves, requeued }: Placement,
): FoldedPeriod<P | (NewPeriod & { readonly id: number })>[] {
  const added = [period, ...moves.map(({ rest }) => rest)].map((row) => ({ ...row, id: 0 }));
  return foldPeriods<P | (NewPeriod & { readonly id: number })>([...shifted(existing, { moves, requeued }), ...added]);
}

interface Unplaced {
  readonly period: UnplacedPeriod;
  readonly moves: readonly (Omit<PeriodMove, 'rest'> & { readonly rest: UnplacedPeriod })[];
  readonly requeued: Placement['requeued'];
}

function withPlaces(existing: readonly PeriodFacts[], { period, moves, requeued }: Unplaced): Placement {
  const added = [period, ...moves.map(({ rest }) => rest)].map((row) => ({ ...row, id: 0 }));
  const folded = foldPeriods<PeriodFacts>([...shifted(existing, { moves, requeued }), ...added]);
  return {
    period: placed(period, folded),
    moves: moves.map((move) => ({ ...move, rest: placed(move.rest, folded) })),
    requeued,
  };
}

/** The periods that were there, out of the way. */
function shifted<P extends PeriodFacts>(
  existing: readonly P[],
  { moves, requeued }: Pick<Unplaced, 'moves' | 'requeued'>,
): P[] {
  const places = new Map(requeued.map((row) => [row.period_id, row.seq]));
  const moved = new Map(moves.map((move) => [move.period_id, move.moved_seconds]));
  return existing.map((row) => ({
    ...row,
    seq: places.get(row.id) ?? row.seq,
    moved_seconds: moved.get(row.id) ?? row.moved_seconds,
  }));
}

/** Whether a grant starts at once or goes to the end. */
export function effectiveApply(
  folded: readonly FoldedPeriod<PeriodFacts & { readonly tariff_id: number | null }>[],
  { apply, terms, now }: { readonly apply: Apply; readonly terms: TariffTerms; readonly now: string },
): Apply {
  const { status, current } = subscriptionAt(folded, now);
  const isSame = terms.tariff_id !== null && current?.tariff_id === terms.tariff_id;
  return apply === 'now' && status === 'active' && !isSame ? 'now' : 'extend';
}

/** Nothing is sold on top of a lifetime that lasts, so a lifetime never has to move. */
function hasUnused(period: FoldedPeriod, now: string): boolean {
  return !isRevoked(period) && period.length_seconds !== null && unusedSeconds(period, now) > 0;
}

type UnplacedPeriod = Omit<NewPeriod, 'starts_at' | 'ends_at'>;

function nextSeq(existing: readonly PeriodFacts[]): number {
  return existing.reduce((highest, period) => Math.max(highest, period.seq), 0) + 1;
}

function grantedRow({ terms, origin, now, cut_seconds = 0 }: Grant, seq: number): UnplacedPeriod {
  return {
    ...termsIn(terms),
    ...originIn(origin),
    payment_id: origin.payment_id,
    seq,
    granted_at: now as Instant,
    length_seconds: terms.duration_days === null ? null : terms.duration_days * DAY_SECONDS,
    cut_seconds,
    moved_seconds: 0,
    rest_of_id: null,
    used_bytes: 0,
    revoked_at: null,
  };
}

function restRow(
  period: FoldedPeriod<MovablePeriod>,
  { now, seq, length_seconds }: { readonly now: string; readonly seq: number; readonly length_seconds: number },
): UnplacedPeriod {
  return {
    ...termsIn(period),
    ...originIn(period),
    payment_id: null,
    seq,
    granted_at: now as Instant,
    length_seconds,
    cut_seconds: 0,
    moved_seconds: 0,
    rest_of_id: period.id,
    used_bytes: period.used_bytes,
    revoked_at: null,
  };
}

function termsIn(terms: TariffTerms): TariffTerms {
  const { tariff_id, tariff_name, duration_days, device_limit, traffic_limit_bytes, grace_days } = terms;
  return { tariff_id, tariff_name, duration_days, device_limit, traffic_limit_bytes, grace_days };
}

function originIn({ source, price_minor, currency, reason }: Omit<PeriodOrigin, 'payment_id'>) {
  return { source, price_minor, currency, reason };
}

function placed(row: UnplacedPeriod, folded: readonly FoldedPeriod[]): NewPeriod {
  const place = folded.find(({ seq }) => seq === row.seq);
  if (place === undefined) throw new TypeError(`no place ${row.seq} in the chain`);
  return { ...row, starts_at: place.starts_at, ends_at: place.ends_at };
}

/** The terms of a compensation of `days`: those of the period it lengthens. */
export function compensationTerms(period: TariffTerms, days: number): TariffTerms {
  return { ...termsIn(period), duration_days: days };
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
    periods: folded.map((period) => periodView(period, folded)),
  };
}

function periodView(period: FoldedPeriod<PeriodRecord>, chain: readonly FoldedPeriod<PeriodRecord>[]): PeriodView {
  return {
    id: period.id,
    tariff_id: period.tariff_id,
    starts_at: period.starts_at,
    ends_at: period.ends_at,
    source: period.source,
    payment_id: soldPeriod(period, chain).payment_id,
    revoked_at: period.revoked_at as Instant | null,
  };
}

/** The period that was granted, for one that may be a rest of it. */
export function soldPeriod<P extends PeriodFacts>(period: P, chain: readonly P[]): P {
  const origin = period.rest_of_id === null ? undefined : chain.find(({ id }) => id === period.rest_of_id);
  return origin === undefined ? period : soldPeriod(origin, chain);
}

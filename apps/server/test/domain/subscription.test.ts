import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addSeconds, DAY_SECONDS, epochMs, type Instant, LAST_INSTANT } from '../../src/domain/instant.ts';
import {
  appendPeriod,
  compensationTerms,
  type FoldedPeriod,
  foldPeriods,
  hasLifetime,
  misplacedPeriods,
  nextChangeAt,
  type PeriodCut,
  type PeriodFacts,
  type PeriodRecord,
  refundCuts,
  revokeCut,
  subscriptionAt,
  subscriptionView,
} from '../../src/domain/subscription.ts';
import { day, period, START, terms } from './periods.ts';

const origin = { source: 'payment', payment_id: 1, price_minor: 999, currency: 'USD', reason: null } as const;
const spans = (folded: readonly FoldedPeriod[]) => folded.map(({ starts_at, ends_at }) => [starts_at, ends_at]);

/** The rows after a period was cut. */
function cut(rows: readonly PeriodRecord[], seq: number, refund: { refunded: number; paid: number; at: string }) {
  const target = foldPeriods(rows).find((row) => row.seq === seq);
  if (target === undefined) throw new Error('no such period');
  const [change] = refundCuts([target], { refundedMinor: refund.refunded, paidMinor: refund.paid, at: refund.at });
  return rows.map((row) => (row.seq === seq && change !== undefined ? withCut(row, change) : row));
}

function withCut<P extends PeriodFacts>(row: P, { cut_seconds, revoked_at }: PeriodCut): P {
  return { ...row, cut_seconds, revoked_at };
}

const fullRefund = (at: string) => ({ refunded: 999, paid: 999, at });

describe('a chain of periods', () => {
  it('puts a renewal behind what is left and not over it', () => {
    const folded = foldPeriods([period(), period({ seq: 2, granted_at: day(10) })]);
    expect(spans(folded)).toEqual([
      [START, day(30)],
      [day(30), day(60)],
    ]);
  });

  it('starts at once when the time before it is over', () => {
    const folded = foldPeriods([period(), period({ seq: 2, granted_at: day(45) })]);
    expect(spans(folded)[1]).toEqual([day(45), day(75)]);
  });

  it('does not depend on the order in which the rows come', () => {
    const rows = [period(), period({ seq: 2, granted_at: day(1) }), period({ seq: 3, granted_at: day(2) })];
    expect(foldPeriods(rows.toReversed())).toEqual(foldPeriods(rows));
  });

  it('takes a refunded share from the end of its own period and moves the later ones forward', () => {
    const rows = [period(), period({ seq: 2, granted_at: day(1) })];
    const folded = foldPeriods(cut(rows, 1, { refunded: 333, paid: 999, at: day(5) }));
    expect(spans(folded)).toEqual([
      [START, day(20)],
      [day(20), day(50)],
    ]);
  });

  it('loses nothing already used to a full refund, and lets the next period follow at once', () => {
    const rows = [period(), period({ seq: 2, granted_at: day(1) })];
    const folded = foldPeriods(cut(rows, 1, fullRefund(day(12))));
    expect(spans(folded)).toEqual([
      [START, day(12)],
      [day(12), day(42)],
    ]);
  });

  it('keeps the paid days before a refunded renewal', () => {
    const rows = [period(), period({ seq: 2, granted_at: day(1) }), period({ seq: 3, granted_at: day(2) })];
    const folded = foldPeriods(cut(rows, 2, fullRefund(day(3))));
    expect(spans(folded)).toEqual([
      [START, day(30)],
      [day(30), day(30)],
      [day(30), day(60)],
    ]);
  });

  it('takes nothing from a period that is over', () => {
    const rows = [period()];
    const [after] = foldPeriods(cut(rows, 1, fullRefund(day(31))));
    expect(after).toMatchObject({ cut_seconds: 0, ends_at: day(30), revoked_at: day(31) });
  });

  it('never gives back what an earlier refund took', () => {
    const once = cut([period()], 1, { refunded: 500, paid: 999, at: day(1) });
    const again = cut(once, 1, { refunded: 500, paid: 999, at: day(14.9) });
    expect(again).toEqual(once);
  });

  it('computes shares of sums beyond 2^53 exactly', () => {
    const huge = period({ length_seconds: 36_500 * DAY_SECONDS, price_minor: Number.MAX_SAFE_INTEGER });
    const paid = Number.MAX_SAFE_INTEGER;
    const [row] = foldPeriods([huge]);
    const [change] = refundCuts(row === undefined ? [] : [row], {
      refundedMinor: paid - 1,
      paidMinor: paid,
      at: START,
    });
    expect(change?.cut_seconds).toBe(36_500 * DAY_SECONDS - 1);
  });

  it('stops at the last instant there is', () => {
    const rows = Array.from({ length: 100 }, (_, i) => period({ seq: i + 1, length_seconds: 36_500 * DAY_SECONDS }));
    expect(foldPeriods(rows).at(-1)?.ends_at).toBe(LAST_INSTANT);
  });

  it('names the rows whose derived columns are out of date, and no others', () => {
    const rows = foldPeriods([period(), period({ seq: 2 }), period({ seq: 3 })]);
    expect(misplacedPeriods(rows)).toEqual([]);
    const changed = rows.map((row) => (row.seq === 2 ? { ...row, cut_seconds: DAY_SECONDS } : row));
    expect(misplacedPeriods(changed).map((row) => [row.seq, row.starts_at, row.ends_at])).toEqual([
      [2, day(30), day(59)],
      [3, day(59), day(89)],
    ]);
  });
});

describe('a lifetime', () => {
  const lifetime = (overrides: Partial<PeriodRecord> = {}) =>
    period({ length_seconds: null, duration_days: null, ...overrides });

  it('follows the paid time before it and has no end', () => {
    const folded = foldPeriods([period(), lifetime({ seq: 2, granted_at: day(1) })]);
    expect(spans(folded)[1]).toEqual([day(30), null]);
    expect(hasLifetime(folded)).toBe(true);
    expect(subscriptionAt(folded, day(2))).toMatchObject({
      status: 'active',
      is_lifetime: true,
      ended_at: null,
      access_until: null,
      days_remaining: null,
      current: { seq: 1 },
    });
  });

  it('ends with a full refund at the moment of the refund', () => {
    const folded = foldPeriods(cut([lifetime()], 1, fullRefund(day(400))));
    expect(spans(folded)).toEqual([[START, day(400)]]);
    expect(subscriptionAt(folded, day(400)).status).toBe('revoked');
    expect(hasLifetime(folded)).toBe(false);
  });

  it('that never began ends where it would have begun', () => {
    const rows = [period(), lifetime({ seq: 2, granted_at: day(1) })];
    const folded = foldPeriods(cut(rows, 2, fullRefund(day(5))));
    expect(spans(folded)[1]).toEqual([day(30), day(30)]);
  });

  it('is left alone by a partial refund', () => {
    const rows = [lifetime()];
    expect(cut(rows, 1, { refunded: 998, paid: 999, at: day(5) })).toEqual(rows);
  });

  it('makes what was granted behind it wait until it is revoked', () => {
    const rows = [lifetime(), period({ seq: 2, granted_at: day(3) })];
    expect(spans(foldPeriods(rows))[1]).toEqual([LAST_INSTANT, LAST_INSTANT]);
    expect(subscriptionAt(foldPeriods(rows), day(5)).current?.seq).toBe(1);
    const revoked = foldPeriods(cut(rows, 1, fullRefund(day(10))));
    expect(spans(revoked)[1]).toEqual([day(10), day(40)]);
  });
});

describe('a subscription at a moment', () => {
  it('is active to the last millisecond and not in the next', () => {
    const folded = foldPeriods([period()]);
    expect(subscriptionAt(folded, addSeconds(day(30), -0.001)).status).toBe('active');
    expect(subscriptionAt(folded, day(30)).status).toBe('expired');
  });

  it('counts whole days to the end of the whole chain', () => {
    const folded = foldPeriods([period(), period({ seq: 2 })]);
    expect(subscriptionAt(folded, START)).toMatchObject({ days_remaining: 60, ended_at: day(60), current: { seq: 1 } });
    expect(subscriptionAt(folded, addSeconds(START, 1)).days_remaining).toBe(59);
    expect(subscriptionAt(folded, day(59.5)).days_remaining).toBe(0);
    expect(subscriptionAt(folded, day(70)).days_remaining).toBe(0);
  });

  it('has a grace at the end of the chain that moves no paid date', () => {
    const rows = [period({ grace_days: 9 }), period({ seq: 2, grace_days: 3 })];
    const folded = foldPeriods(rows);
    expect(spans(folded)).toEqual(spans(foldPeriods(rows.map((row) => ({ ...row, grace_days: 0 })))));
    expect(subscriptionAt(folded, day(60))).toMatchObject({
      status: 'grace',
      ended_at: day(60),
      access_until: day(63),
    });
    expect(subscriptionAt(folded, addSeconds(day(63), -0.001)).status).toBe('grace');
    expect(subscriptionAt(folded, day(63)).status).toBe('expired');
    const renewed = foldPeriods([...rows, period({ seq: 3, granted_at: day(62) })]);
    expect(spans(renewed)[2]).toEqual([day(62), day(92)]);
  });

  it('has the grace of the last period that gave time, when a renewal was refunded', () => {
    const rows = [period({ grace_days: 3 }), period({ seq: 2, granted_at: day(1), grace_days: 9 })];
    const folded = foldPeriods(cut(rows, 2, fullRefund(day(2))));
    expect(subscriptionAt(folded, day(31))).toMatchObject({ status: 'grace', access_until: day(33) });
    expect(subscriptionAt(folded, day(33)).status).toBe('expired');
  });

  it('ends without grace, and at once, when it is revoked', () => {
    const at = addSeconds(day(5), 0.4);
    const folded = foldPeriods(cut([period({ grace_days: 3 })], 1, fullRefund(at)));
    expect(subscriptionAt(folded, at)).toMatchObject({ status: 'revoked' });
    expect(subscriptionAt(folded, day(6)).status).toBe('revoked');
  });

  it('has no gap when the next period follows a revoked one within the second', () => {
    const at = addSeconds(day(5), 0.4);
    const rows = [period(), period({ seq: 2, granted_at: day(1), device_limit: 4 })];
    const folded = foldPeriods(cut(rows, 1, fullRefund(at)));
    expect(subscriptionAt(folded, at)).toMatchObject({ status: 'active', current: { seq: 2 } });
  });

  it('was never there without periods', () => {
    expect(subscriptionAt([], START)).toMatchObject({ status: 'none', current: undefined, ended_at: null });
    expect(nextChangeAt([], START)).toBeNull();
  });
});

describe('the view of a subscription', () => {
  it('shows the current period, the end of the chain and its parts', () => {
    const folded = foldPeriods([period(), period({ seq: 2, tariff_name: 'Year', source: 'admin', payment_id: null })]);
    expect(subscriptionView(folded, day(1))).toEqual({
      id: 101,
      user_id: 7,
      tariff_id: 3,
      tariff_name: 'Month',
      status: 'active',
      duration_days: 30,
      price: '9.99',
      currency: 'USD',
      started_at: START,
      ended_at: day(60),
      days_remaining: 59,
      is_lifetime: false,
      periods: [
        {
          id: 101,
          tariff_id: 3,
          starts_at: START,
          ends_at: day(30),
          source: 'payment',
          payment_id: 1,
          revoked_at: null,
        },
        {
          id: 102,
          tariff_id: 3,
          starts_at: day(30),
          ends_at: day(60),
          source: 'admin',
          payment_id: null,
          revoked_at: null,
        },
      ],
    });
  });

  it('is null when nothing is active or in grace, unless ended ones are asked for', () => {
    const folded = foldPeriods([period()]);
    expect(subscriptionView(folded, day(31))).toBeNull();
    expect(subscriptionView(folded, day(31), { includeEnded: true })).toMatchObject({
      status: 'expired',
      days_remaining: 0,
    });
    expect(subscriptionView([], day(31), { includeEnded: true })).toBeNull();
  });
});

describe('a new period', () => {
  it('copies the terms as sold and takes the next place in the chain', () => {
    const added = appendPeriod([period({ seq: 4 })], { terms: terms({ duration_days: 7 }), origin, now: day(2) });
    expect(added).toMatchObject({
      seq: 5,
      granted_at: day(2),
      starts_at: day(30),
      ends_at: day(37),
      length_seconds: 7 * DAY_SECONDS,
      payment_id: 1,
    });
    expect(added).not.toHaveProperty('id');
  });

  it('of a compensation has the terms of what it lengthens', () => {
    expect(compensationTerms(period({ device_limit: 5, tariff_name: 'Family' }), 3)).toEqual(
      terms({ device_limit: 5, tariff_name: 'Family', duration_days: 3 }),
    );
  });
});

type Step =
  | { readonly kind: 'grant'; readonly seconds: number | null; readonly paid: number }
  | { readonly kind: 'refund'; readonly pick: number; readonly share: number }
  | { readonly kind: 'revoke'; readonly pick: number }
  | { readonly kind: 'wait'; readonly seconds: number };

const lengths = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 400 }) }, fc.constant(null));
const waits = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 50 }), fc.integer({ min: 50, max: 900 }));
const stepWith = (wait: fc.Arbitrary<number>): fc.Arbitrary<Step> =>
  fc.oneof(
    fc.record({ kind: fc.constant('grant' as const), seconds: lengths, paid: fc.integer({ min: 1, max: 50 }) }),
    fc.record({ kind: fc.constant('refund' as const), pick: fc.nat(), share: fc.integer({ min: 1, max: 50 }) }),
    fc.record({ kind: fc.constant('revoke' as const), pick: fc.nat() }),
    fc.record({ kind: fc.constant('wait' as const), seconds: wait }),
  );

interface Book {
  rows: PeriodFacts[];
  paid: Map<number, number>;
  refunded: Map<number, number>;
}

const emptyBook = (): Book => ({ rows: [], paid: new Map(), refunded: new Map() });

/** Does one step to the rows, as the use cases would. Answers the period it was about. */
function perform(book: Book, step: Step, now: Instant): number | undefined {
  if (step.kind === 'wait') return undefined;
  if (step.kind === 'grant') {
    const granted = appendPeriod(book.rows, { terms: terms(), origin, now });
    book.rows = [...book.rows, { ...granted, id: granted.seq, length_seconds: step.seconds }];
    book.paid.set(granted.seq, step.paid);
    book.refunded.set(granted.seq, 0);
    return granted.seq;
  }
  const folded = foldPeriods(book.rows);
  const target = folded[step.pick % Math.max(1, folded.length)];
  if (target === undefined) return undefined;
  const paid = book.paid.get(target.seq) ?? 1;
  const refunded = Math.min(paid, (book.refunded.get(target.seq) ?? 0) + (step.kind === 'refund' ? step.share : 0));
  book.refunded.set(target.seq, refunded);
  if (step.kind === 'refund' && refunded === 0) return undefined;
  const change =
    step.kind === 'revoke'
      ? revokeCut(target, now)
      : refundCuts([target], { refundedMinor: refunded, paidMinor: paid, at: now })[0];
  if (change === undefined) return target.seq;
  book.rows = book.rows.map((row) => (row.seq === target.seq ? withCut(row, change) : row));
  return target.seq;
}

/**
 * The same promises told without dates: each grant is a bucket of seconds, time drinks from the first that is not
 * empty, a refund pours out its share of a bucket but never what was drunk.
 */
class Buckets {
  private readonly buckets: { length: number; used: number; cut: number }[] = [];

  grant(seconds: number | null): void {
    this.buckets.push({ length: seconds ?? Number.POSITIVE_INFINITY, used: 0, cut: 0 });
  }

  wait(seconds: number): void {
    let thirst = seconds;
    for (const bucket of this.buckets) {
      const drunk = Math.min(thirst, bucket.length - bucket.used - bucket.cut);
      bucket.used += drunk;
      thirst -= drunk;
    }
  }

  pour(index: number, refunded: number, paid: number): void {
    const bucket = this.buckets[index];
    if (bucket === undefined) throw new Error('no such bucket');
    const isAll = refunded >= paid;
    if (bucket.length === Number.POSITIVE_INFINITY) {
      if (isAll) bucket.length = bucket.used;
      return;
    }
    const share = isAll ? bucket.length : Math.floor((bucket.length * refunded) / paid);
    bucket.cut = Math.max(bucket.cut, Math.min(share, bucket.length - bucket.used));
  }

  get left(): number {
    return this.buckets.reduce((sum, { length, used, cut }) => sum + Math.max(0, length - used - cut), 0);
  }

  get used(): number[] {
    return this.buckets.map(({ used }) => used);
  }
}

/** The seconds of a folded period that have passed at `now`. */
function elapsed(row: FoldedPeriod, now: Instant): number {
  const end = row.ends_at === null || row.ends_at > now ? now : row.ends_at;
  return Math.max(0, (epochMs(end) - epochMs(row.starts_at)) / 1000);
}

describe('any history of grants, refunds and revokes', () => {
  it('gives the same time as buckets of seconds that are drunk in order', () => {
    fc.assert(
      fc.property(fc.array(stepWith(waits), { maxLength: 40 }), (steps) => {
        const book = emptyBook();
        const model = new Buckets();
        let now = START;
        for (const step of steps) {
          if (step.kind === 'wait') {
            now = addSeconds(now, step.seconds);
            model.wait(step.seconds);
          }
          const seq = perform(book, step, now);
          if (step.kind === 'grant') model.grant(step.seconds);
          else if (seq !== undefined) {
            const paid = book.paid.get(seq) ?? 1;
            model.pour(seq - 1, step.kind === 'revoke' ? paid : (book.refunded.get(seq) ?? 0), paid);
          }
          const folded = foldPeriods(book.rows);
          const state = subscriptionAt(folded, now);
          expect(state.status === 'active').toBe(model.left > 0);
          expect(folded.map((row) => elapsed(row, now))).toEqual(model.used);
          if (model.left > 0 && model.left < Number.POSITIVE_INFINITY) {
            expect(state.ended_at).toBe(addSeconds(now, model.left));
          }
          expect(state.is_lifetime).toBe(model.left === Number.POSITIVE_INFINITY);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('covers exactly the seconds that were granted and not cut, without overlap', () => {
    const finite = stepWith(waits).filter((step) => step.kind !== 'grant' || step.seconds !== null);
    fc.assert(
      fc.property(fc.array(finite, { maxLength: 40 }), (steps) => {
        const book = emptyBook();
        let now = START;
        for (const step of steps) {
          if (step.kind === 'wait') now = addSeconds(now, step.seconds);
          perform(book, step, now);
        }
        const folded = foldPeriods(book.rows);
        const covered = folded.reduce((sum, row) => sum + epochMs(row.ends_at ?? '') - epochMs(row.starts_at), 0);
        const owed = book.rows.reduce((sum, row) => sum + (row.length_seconds ?? 0) - row.cut_seconds, 0);
        expect(covered).toBe(owed * 1000);
        for (const [i, row] of folded.slice(1).entries())
          expect(row.starts_at >= (folded[i]?.ends_at ?? '')).toBe(true);
      }),
    );
  });

  it('never moves a part that has passed, to the millisecond', () => {
    const fractions = fc.integer({ min: 0, max: 400_000 }).map((ms) => ms / 1000);
    fc.assert(
      fc.property(fc.array(stepWith(fractions), { maxLength: 30 }), (steps) => {
        const book = emptyBook();
        let now = START;
        for (const step of steps) {
          if (step.kind === 'wait') now = addSeconds(now, step.seconds);
          const past = pastOf(foldPeriods(book.rows), now);
          perform(book, step, now);
          const after = pastOf(foldPeriods(book.rows), now);
          expect(after.slice(0, past.length)).toEqual(past);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('only ever takes time with refunds and revokes, even when the clock jumps back', () => {
    const jumps = fc.integer({ min: -500, max: 500 });
    fc.assert(
      fc.property(fc.array(stepWith(jumps), { maxLength: 40 }), (steps) => {
        const book = emptyBook();
        let now = START;
        for (const step of steps) {
          if (step.kind === 'wait') now = addSeconds(now, step.seconds);
          const before = book.rows;
          const wasActive = subscriptionAt(foldPeriods(before), now).status === 'active';
          const end = foldPeriods(before).at(-1)?.ends_at ?? LAST_INSTANT;
          perform(book, step, now);
          if (step.kind === 'grant' || step.kind === 'wait') continue;
          const folded = foldPeriods(book.rows);
          const isWaiting = before.some((row) => row.length_seconds === null) && before.at(-1)?.length_seconds !== null;
          if (!wasActive && !isWaiting) expect(subscriptionAt(folded, now).status).not.toBe('active');
          expect((folded.at(-1)?.ends_at ?? LAST_INSTANT) <= end).toBe(true);
          for (const [i, row] of book.rows.entries()) {
            expect(row.cut_seconds).toBeGreaterThanOrEqual(before[i]?.cut_seconds ?? 0);
            expect(row.cut_seconds).toBeLessThanOrEqual(row.length_seconds ?? 0);
            if (before[i]?.revoked_at !== null) expect(row.revoked_at).toBe(before[i]?.revoked_at);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('says when it will next answer something else', () => {
    fc.assert(
      fc.property(fc.array(stepWith(waits), { maxLength: 20 }), fc.nat({ max: 3 }), (steps, graceDays) => {
        const book = emptyBook();
        let now = START;
        for (const step of steps) {
          if (step.kind === 'wait') now = addSeconds(now, step.seconds);
          perform(book, step, now);
        }
        const folded = foldPeriods(book.rows.map((row) => ({ ...row, grace_days: graceDays })));
        for (let at: Instant | null = now, turns = 0; at !== null && turns < 100; turns += 1) {
          const next: Instant | null = nextChangeAt(folded, at);
          const { status, current } = subscriptionAt(folded, at);
          const last = next === null ? addSeconds(at, 10 ** 8) : addSeconds(next, -0.001);
          expect(subscriptionAt(folded, last)).toMatchObject({
            status,
            ...(current && { current: { seq: current.seq } }),
          });
          at = next;
        }
      }),
    );
  });
});

/** What lies before `now`, period by period; those that have not begun are not there. */
function pastOf(folded: readonly FoldedPeriod[], now: Instant): unknown[] {
  return folded
    .filter((row) => row.starts_at < now && (row.ends_at === null || row.ends_at > row.starts_at))
    .map((row) => [row.seq, row.starts_at, row.ends_at === null || row.ends_at > now ? now : row.ends_at]);
}

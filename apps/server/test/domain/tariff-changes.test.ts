import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideAdminRefund } from '../../src/domain/decide-refund.ts';
import { addSeconds, DAY_SECONDS, epochMs, type Instant, LAST_INSTANT } from '../../src/domain/instant.ts';
import type { SettlementEvent } from '../../src/domain/settlement.ts';
import {
  afterPlacement,
  appendPeriod,
  compensationTerms,
  type FoldedPeriod,
  hasLifetime,
  type MovablePeriod,
  type PeriodFacts,
  piecesOf,
  placeGrant,
  revokeCut,
  soldPeriod,
  subscriptionAt,
  type TariffTerms,
} from '../../src/domain/subscription.ts';
import { report, secondsSince } from '../reliability/results.ts';
import { CarafeLine } from './carafe.ts';
import { Ledger } from './ledger.ts';
import { day, START, terms } from './periods.ts';

const USER = 7;
const month = terms();
const family = terms({ tariff_id: 4, tariff_name: 'Family', device_limit: 5 });
const week = terms({ tariff_id: 5, tariff_name: 'Week', duration_days: 7 });
const forever = terms({ tariff_id: 6, tariff_name: 'Forever', duration_days: null });
const origin = { source: 'admin', payment_id: null, price_minor: 0, currency: 'USD', reason: null } as const;

function buy(ledger: Ledger, sold: TariffTerms, now: Instant, apply: 'now' | 'extend' = 'now'): number {
  const { id, reference } = ledger.open({ terms: sold, apply, user_id: USER, amount_minor: 900 });
  const money = { reference, chargeId: `c${id}`, amountMinor: 900, currency: 'USD' };
  ledger.receive({ provider: 'standard', type: 'completed', ...money }, now);
  return id;
}

let refunds = 0;
function giveBack(ledger: Ledger, paymentId: number, amountMinor: number, now: Instant): void {
  refunds += 1;
  const decision = decideAdminRefund(
    ledger.snapshotOf(paymentId),
    { amountMinor, providerRefundId: `a${refunds}` },
    now,
  );
  ledger.act(decision);
}

/** What will be used, in order: the tariff and its days. */
function ahead(ledger: Ledger, now: Instant): (readonly [name: string, from: number, to: number])[] {
  return ledger
    .chainOf(USER)
    .filter((row) => (row.ends_at ?? LAST_INSTANT) > now && row.ends_at !== row.starts_at)
    .map((row) => [row.tariff_name, daysTo(row.starts_at), daysTo(row.ends_at ?? LAST_INSTANT)] as const);
}

function daysTo(at: string): number {
  return at === LAST_INSTANT ? Number.POSITIVE_INFINITY : (epochMs(at) - epochMs(START)) / 1000 / DAY_SECONDS;
}

describe('paying another tariff', () => {
  it('starts it at once and puts the unused rest of the running one behind it', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    buy(ledger, family, day(10));
    expect(ahead(ledger, day(10))).toEqual([
      ['Family', 10, 40],
      ['Month', 40, 60],
    ]);
    expect(subscriptionAt(ledger.chainOf(USER), day(10)).current).toMatchObject({ device_limit: 5 });
  });

  it('keeps the order of what was queued, and queues it without splitting it', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    buy(ledger, week, START, 'extend');
    buy(ledger, family, day(10));
    expect(ahead(ledger, day(10))).toEqual([
      ['Family', 10, 40],
      ['Month', 40, 60],
      ['Week', 60, 67],
    ]);
    expect(ledger.periods).toHaveLength(4);
  });

  it('queues when asked to, and extends when it is the running tariff or nothing runs', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    buy(ledger, family, day(1), 'extend');
    buy(ledger, month, day(2));
    expect(ahead(ledger, day(2))).toEqual([
      ['Month', 0, 30],
      ['Family', 30, 60],
      ['Month', 60, 90],
    ]);
    buy(ledger, week, day(100));
    expect(ahead(ledger, day(100))).toEqual([['Week', 100, 107]]);
  });

  it('carries the traffic that was counted to the rest', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    ledger.periods = ledger.periods.map((row) => ({ ...row, used_bytes: 12_345 }));
    buy(ledger, family, day(10));
    expect(ledger.chainOf(USER).map(({ used_bytes }) => used_bytes)).toEqual([12_345, 0, 12_345]);
  });

  it('is in force from the same moment, also in the middle of a second', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    const now = addSeconds(day(10), 0.25);
    buy(ledger, family, now);
    expect(subscriptionAt(ledger.chainOf(USER), now)).toMatchObject({
      status: 'active',
      current: { tariff_name: 'Family' },
      ended_at: day(60),
    });
  });

  it('that never ends starts it at once; what waited behind it begins when it is refunded', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    const lifetime = buy(ledger, forever, day(10));
    expect(subscriptionAt(ledger.chainOf(USER), day(500)).current?.tariff_name).toBe('Forever');
    giveBack(ledger, lifetime, 900, day(15));
    expect(ahead(ledger, day(15))).toEqual([['Month', 15, 35]]);
  });

  it('back and forth loses no day', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    buy(ledger, family, day(5));
    buy(ledger, month, day(10));
    buy(ledger, family, day(15));
    expect(ahead(ledger, day(15))).toEqual([
      ['Family', 15, 45],
      ['Month', 45, 70],
      ['Family', 70, 95],
      ['Month', 95, 120],
    ]);
  });
});

describe('a refund after a change of tariff', () => {
  it('of the new one lets the rest of the old one go on at once', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    const second = buy(ledger, family, day(10));
    giveBack(ledger, second, 900, day(12));
    expect(ahead(ledger, day(12))).toEqual([['Month', 12, 32]]);
    expect(subscriptionAt(ledger.chainOf(USER), day(12)).status).toBe('active');
  });

  it('of the old one takes its rest, wherever that lies', () => {
    const ledger = new Ledger();
    const first = buy(ledger, month, START);
    buy(ledger, family, day(10));
    giveBack(ledger, first, 900, day(12));
    expect(ahead(ledger, day(12))).toEqual([['Family', 10, 40]]);
    expect(piecesOf(ledger.chainOf(USER), first).every(({ revoked_at }) => revoked_at === day(12))).toBe(true);
  });

  it('in part counts what was sold and not what is left of it', () => {
    const ledger = new Ledger();
    const first = buy(ledger, month, START);
    buy(ledger, family, day(10));
    giveBack(ledger, first, 300, day(12));
    expect(ahead(ledger, day(12)).at(-1)).toEqual(['Month', 40, 50]);
    buy(ledger, week, day(41));
    giveBack(ledger, first, 300, day(42));
    // Eleven of its thirty days were used, twenty are owed back: nine are left to take, the last of them whole.
    expect(ahead(ledger, day(42))).toEqual([['Week', 41, 48]]);
    expect(piecesOf(ledger.chainOf(USER), first).reduce((sum, row) => sum + row.cut_seconds, 0)).toBe(19 * DAY_SECONDS);
  });
});

describe('a quote', () => {
  it('is what the settlement then writes', () => {
    const ledger = new Ledger();
    buy(ledger, month, START);
    const rows = ledger.periods as readonly MovablePeriod[];
    const quoted = placeGrant(rows, { terms: family, origin, now: day(3), apply: 'now' });
    const chain = afterPlacement(rows, quoted);
    buy(ledger, family, day(3));
    const dates = (row: { starts_at: string; ends_at: string | null }) => [row.starts_at, row.ends_at];
    expect(chain.map(dates)).toEqual(ledger.chainOf(USER).map(dates));
  });
});

type Step =
  | { readonly kind: 'buy'; readonly tariff: number; readonly apply: 'now' | 'extend'; readonly amount: number }
  | { readonly kind: 'refund'; readonly pick: number; readonly share: number }
  | { readonly kind: 'dispute'; readonly pick: number; readonly type: 'disputed' | 'dispute_won' | 'dispute_lost' }
  | { readonly kind: 'trial' }
  | { readonly kind: 'extend'; readonly days: number }
  | { readonly kind: 'revoke'; readonly pick: number }
  | { readonly kind: 'wait'; readonly seconds: number };

const tariffs = [month, family, week, forever] as const;
const trial = terms({ tariff_id: 9, tariff_name: 'Trial', duration_days: 3 });

const waits = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 1, max: 86_399 }),
  fc.integer({ min: 1, max: 40 }).map((days) => days * DAY_SECONDS),
  fc.integer({ min: 1, max: 400 * DAY_SECONDS }),
);
const stepWith = (wait: fc.Arbitrary<number>): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('buy' as const),
        tariff: fc.constantFrom(0, 0, 0, 1, 1, 1, 2, 2, 2, 3),
        apply: fc.constantFrom('now' as const, 'now' as const, 'extend' as const),
        amount: fc.constantFrom(900, 900, 7, 1),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('refund' as const),
        pick: fc.nat(),
        share: fc.constantFrom(1, 2, 300, 451, 900),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('dispute' as const),
        pick: fc.nat(),
        type: fc.constantFrom(
          'disputed' as const,
          'disputed' as const,
          'dispute_won' as const,
          'dispute_lost' as const,
        ),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'trial' as const }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('extend' as const), days: fc.integer({ min: 1, max: 9 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('revoke' as const), pick: fc.nat() }) },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds: wait }) },
  );

/** The rows and the carafes through the same history. Keys of carafes are ids of the periods that were granted. */
class Both {
  readonly ledger = new Ledger();
  readonly model = new CarafeLine();
  /** By payment: what came, what went back, and the dispute on it. */
  private readonly money = new Map<number, { paid: number; back: number; dispute: 'none' | 'open' | 'won' | 'lost' }>();
  now: Instant = START;
  private count = 0;

  after(steps: readonly Step[]): Both {
    for (const step of steps) this.perform(step);
    return this;
  }

  perform(step: Step): void {
    if (step.kind === 'wait') this.wait(step.seconds);
    if (step.kind === 'buy') this.buy(step);
    if (step.kind === 'refund') this.refund(step);
    if (step.kind === 'dispute') this.dispute(step);
    if (step.kind === 'trial' && this.ledger.periods.length === 0) this.give(trial, 3);
    if (step.kind === 'extend') this.compensate(step.days);
    if (step.kind === 'revoke') this.revoke(step.pick);
  }

  private wait(seconds: number): void {
    this.now = addSeconds(this.now, seconds);
    this.model.drink(seconds);
  }

  private buy({ tariff, apply, amount }: Extract<Step, { kind: 'buy' }>): void {
    const sold = tariffs[tariff] ?? month;
    const { id, reference } = this.ledger.open({ terms: sold, apply, user_id: USER, amount_minor: amount });
    this.money.set(id, { paid: amount, back: 0, dispute: 'none' });
    const isSellable = !this.model.isEndless;
    this.send({ type: 'completed', reference, chargeId: `c${id}`, amountMinor: amount });
    if (!isSellable) return;
    const seconds = sold.duration_days === null ? Number.POSITIVE_INFINITY : sold.duration_days * DAY_SECONDS;
    this.model.put(this.keyOf(id), sold.tariff_id ?? 0, seconds, apply);
  }

  private refund({ pick, share }: Extract<Step, { kind: 'refund' }>): void {
    const [id, money] = this.pickPayment(pick);
    if (money === undefined || money.back === money.paid) return;
    const amount = Math.min(share, money.paid - money.back);
    money.back += amount;
    this.count += 1;
    this.send({ type: 'refunded', chargeId: `c${id}`, refundId: `r${this.count}`, amountMinor: amount });
    this.model.pour(this.keyOf(id), { of: money.back, from: money.paid });
  }

  private dispute({ pick, type }: Extract<Step, { kind: 'dispute' }>): void {
    const [id, money] = this.pickPayment(pick);
    if (money === undefined) return;
    this.send({ type, chargeId: `c${id}`, refundId: `d${id}` });
    if (money.dispute === 'won' || money.dispute === 'lost') return;
    money.dispute = type === 'disputed' ? 'open' : type === 'dispute_won' ? 'won' : 'lost';
    if (type !== 'dispute_lost' || money.back === money.paid) return;
    money.back = money.paid;
    this.model.empty(this.keyOf(id));
  }

  private revoke(pick: number): void {
    const alive = this.ledger.chainOf(USER).filter((row) => unused(row, this.now) > 0);
    const target = alive[pick % Math.max(1, alive.length)];
    if (target === undefined) return;
    const cut = revokeCut(target, this.now);
    this.ledger.periods = this.ledger.periods.map((row) => (row.id === target.id ? { ...row, ...cut } : row));
    this.model.empty(String(soldPeriod<PeriodFacts>(target, this.ledger.periods).id));
  }

  private compensate(days: number): void {
    const last = this.ledger.chainOf(USER).findLast((row) => unused(row, this.now) > 0);
    if (last !== undefined) this.give(compensationTerms(last, days), days);
  }

  private give(given: TariffTerms, days: number): void {
    if (this.model.isEndless) return;
    const id = this.ledger.periods.length + 1;
    const row = appendPeriod(this.ledger.periods, { terms: given, origin, now: this.now });
    this.ledger.periods.push({ ...row, id, user_id: USER });
    this.model.put(String(id), given.tariff_id ?? 0, days * DAY_SECONDS, 'extend');
  }

  private send(event: Omit<SettlementEvent, 'provider'>): void {
    this.ledger.receive({ provider: 'standard', currency: 'USD', ...event }, this.now);
  }

  private pickPayment(pick: number) {
    const id = (pick % Math.max(1, this.money.size)) + 1;
    return [id, this.money.get(id)] as const;
  }

  private keyOf(paymentId: number): string {
    return String(this.ledger.grantsOf(paymentId)[0]?.id ?? 'nothing bought');
  }

  check(): void {
    const { ledger, model, now } = this;
    const chain = ledger.chainOf(USER);
    const state = subscriptionAt(chain, now);
    expect(state.status === 'active').toBe(model.left > 0);
    expect(state.is_lifetime).toBe(model.isEndless);
    if (model.left > 0) expect(state.current?.tariff_id).toBe(model.firstTariff);
    if (model.left > 0 && !model.isEndless) expect(state.ended_at).toBe(addSeconds(now, model.left));
    const keyed = chain.map((row) => ({ row, key: String(soldPeriod<PeriodFacts>(row, chain).id) }));
    const line = keyed.map(({ row, key }) => [key, unused(row, now)] as const).filter(([, seconds]) => seconds > 0);
    // What waits behind a lifetime has no dates.
    const endless = model.order.findIndex(([, seconds]) => seconds === Number.POSITIVE_INFINITY);
    expect(line).toEqual(endless < 0 ? model.order : model.order.slice(0, endless + 1));
    for (const key of new Set(keyed.map((entry) => entry.key))) {
      const used = keyed.filter((entry) => entry.key === key).reduce((sum, { row }) => sum + elapsed(row, now), 0);
      expect(used).toBe(model.drunkOf(key));
    }
    for (const [id, { paid, back, dispute }] of this.money) {
      const payment = ledger.payment(id);
      expect(payment.refunded_minor).toBe(back);
      expect(payment.status === 'refunded').toBe(back === paid);
      expect((payment.disputed_at ?? null) !== null).toBe(dispute === 'open');
    }
    assertSound(chain);
  }
}

function unused(row: FoldedPeriod, now: Instant): number {
  if (row.ends_at === null) return Number.POSITIVE_INFINITY;
  const from = row.starts_at > now ? row.starts_at : now;
  return Math.max(0, (epochMs(row.ends_at) - epochMs(from)) / 1000);
}

function elapsed(row: FoldedPeriod, now: Instant): number {
  const end = row.ends_at === null || row.ends_at > now ? now : row.ends_at;
  return Math.max(0, (epochMs(end) - epochMs(row.starts_at)) / 1000);
}

/** What holds for the rows whatever the clock did. */
function assertSound(chain: readonly FoldedPeriod<PeriodFacts>[]): void {
  for (const row of chain) {
    if (row.length_seconds === null) expect(row.moved_seconds).toBe(0);
    else expect(row.cut_seconds + row.moved_seconds).toBeLessThanOrEqual(row.length_seconds);
    const rests = chain.filter(({ rest_of_id }) => rest_of_id === row.id);
    expect(rests.reduce((sum, rest) => sum + (rest.length_seconds ?? 0), 0)).toBe(row.moved_seconds);
  }
  for (const [i, row] of chain.slice(1).entries()) expect(row.starts_at >= (chain[i]?.ends_at ?? '')).toBe(true);
}

describe('any history of purchases, changes of tariff, refunds, disputes, trials, compensations and revokes', () => {
  // A failure prints the seed and the shrunk history; SEED repeats it.
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

  it(`gives the same time as carafes in a line (seed ${seed})`, () => {
    const start = performance.now();
    const histories = 10_000;
    fc.assert(
      fc.property(fc.array(stepWith(waits), { minLength: 1, maxLength: 25 }), (steps) => {
        const both = new Both();
        for (const step of steps) {
          both.perform(step);
          both.check();
        }
      }),
      { numRuns: histories, seed },
    );
    report({
      id: 'R3',
      title: 'Random histories against carafes in a line',
      engine: 'none',
      seed,
      counts: { histories },
      violations: [],
      seconds: secondsSince(start),
    });
  }, 120_000);

  it(`keeps its books when the clock jumps and stops between seconds (seed ${seed})`, () => {
    const jumps = fc.integer({ min: -5 * DAY_SECONDS * 1000, max: 20 * DAY_SECONDS * 1000 }).map((ms) => ms / 1000);
    fc.assert(
      fc.property(fc.array(stepWith(jumps), { minLength: 1, maxLength: 25 }), (steps) => {
        const both = new Both();
        for (const step of steps) {
          const before = both.ledger.chainOf(USER);
          both.perform(step);
          const after = both.ledger.chainOf(USER);
          assertSound(after);
          if (step.kind === 'buy' || step.kind === 'trial' || step.kind === 'extend') continue;
          for (const row of before) {
            const same = after.find(({ id }) => id === row.id);
            expect(same?.cut_seconds).toBeGreaterThanOrEqual(row.cut_seconds);
            if (row.revoked_at !== null) expect(same?.revoked_at).toBe(row.revoked_at);
          }
        }
        for (const payment of both.ledger.payments) {
          if (payment.status !== 'refunded') continue;
          expect(piecesOf(both.ledger.chainOf(USER), payment.id).every((row) => row.revoked_at !== null)).toBe(true);
        }
      }),
      { numRuns: 2000, seed },
    );
  }, 60_000);

  it(`makes of a payment what was quoted for it (seed ${seed})`, () => {
    const moments = fc.integer({ min: 0, max: 40 * DAY_SECONDS * 1000 }).map((ms) => ms / 1000);
    const sale = fc.record({ sold: fc.constantFrom(...tariffs), apply: fc.constantFrom('now' as const, 'extend') });
    const dates = (row: { starts_at: string; ends_at: string | null; tariff_id: number | null }) => [
      row.tariff_id,
      row.starts_at,
      row.ends_at,
    ];
    fc.assert(
      fc.property(fc.array(stepWith(moments), { maxLength: 15 }), sale, (steps, { sold, apply }) => {
        const { ledger, now } = new Both().after(steps);
        fc.pre(!hasLifetime(ledger.chainOf(USER)));
        const rows = ledger.periods as readonly MovablePeriod[];
        const quoted = afterPlacement(rows, placeGrant(rows, { terms: sold, origin, now, apply }));
        buy(ledger, sold, now, apply);
        expect(quoted.map(dates)).toEqual(ledger.chainOf(USER).map(dates));
      }),
      { numRuns: 2000, seed },
    );
  }, 60_000);

  it('ends the same whether the refund or the change of tariff comes first in a moment', () => {
    const cases = fc.record({ used: fc.integer({ min: 0, max: 40 }), share: fc.constantFrom(1, 300, 600, 900) });
    fc.assert(
      fc.property(cases, ({ used, share }) => {
        const results = [true, false].map((isRefundFirst) => {
          const ledger = new Ledger();
          const first = buy(ledger, month, START);
          buy(ledger, week, START, 'extend');
          if (isRefundFirst) giveBack(ledger, first, share, day(used));
          buy(ledger, family, day(used));
          if (!isRefundFirst) giveBack(ledger, first, share, day(used));
          const state = subscriptionAt(ledger.chainOf(USER), day(used));
          return [state.status, state.ended_at, [...ahead(ledger, day(used))].sort()];
        });
        // A full refund ends the running tariff, so the change that comes after it finds the queued one running.
        expect(results[0]?.slice(0, 2)).toEqual(results[1]?.slice(0, 2));
        if (share < 900) expect(results[0]).toEqual(results[1]);
      }),
    );
  });
});

describe('a dispute', () => {
  const about = (type: SettlementEvent['type'], more: Partial<SettlementEvent> = {}): SettlementEvent => ({
    provider: 'standard',
    type,
    reference: 'ref-1',
    chargeId: 'c1',
    refundId: 'd1',
    ...more,
  });
  const completed = about('completed', { refundId: undefined, amountMinor: 999, currency: 'USD' });

  it('suspends until it is decided; won, nothing was lost but the time', () => {
    const ledger = new Ledger();
    ledger.open();
    ledger.receive(completed, START);
    expect(ledger.receive(about('disputed'), day(1)).outcome).toBe('settled');
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', disputed_at: day(1) });
    expect(ledger.receive(about('disputed'), day(2)).outcome).toBe('duplicate');
    expect(ledger.receive(about('dispute_won'), day(5)).outcome).toBe('settled');
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', disputed_at: null });
    expect(ledger.chainOf(USER)).toMatchObject([{ ends_at: day(30) }]);
  });

  it('that is lost takes back what is left, recorded under its id', () => {
    const ledger = new Ledger();
    ledger.open();
    ledger.receive(completed, START);
    ledger.receive(about('refunded', { refundId: 'r1', amountMinor: 333, currency: 'USD' }), day(1));
    ledger.receive(about('dispute_lost'), day(2));
    expect(ledger.payment(1)).toMatchObject({ status: 'refunded', refunded_minor: 999 });
    expect(ledger.payment(1).disputed_at ?? null).toBeNull();
    expect(ledger.refunds).toMatchObject([{ amount_minor: 333 }, { amount_minor: 666, provider_refund_id: 'd1' }]);
    expect(ledger.chainOf(USER)).toMatchObject([{ ends_at: day(2), revoked_at: day(2) }]);
  });

  it('stays open while another one on the same payment is', () => {
    const ledger = new Ledger();
    ledger.open();
    ledger.receive(completed, START);
    ledger.receive(about('disputed'), day(1));
    ledger.receive(about('disputed', { refundId: 'd2' }), day(2));
    ledger.receive(about('dispute_won'), day(3));
    expect(ledger.payment(1).disputed_at).toBe(day(1));
    ledger.receive(about('dispute_won', { refundId: 'd2' }), day(4));
    expect(ledger.payment(1).disputed_at).toBeNull();
  });

  it('decided both ways is held for a person', () => {
    const ledger = new Ledger();
    ledger.open();
    ledger.receive(completed, START);
    ledger.receive(about('dispute_won'), day(1));
    expect(ledger.receive(about('dispute_lost'), day(2))).toMatchObject({ outcome: 'held', reason: 'dispute_decided' });
    expect(ledger.payment(1).status).toBe('completed');
  });

  it('waits for the money it is about', () => {
    const ledger = new Ledger();
    ledger.open();
    expect(ledger.receive(about('disputed'), START).outcome).toBe('parked');
    ledger.receive(completed, START);
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', disputed_at: START });
  });

  it('on money that an admin has not decided about is kept, and suspends what he accepts', () => {
    const ledger = new Ledger();
    ledger.open();
    ledger.receive({ ...completed, amountMinor: 500 }, START);
    ledger.receive(about('disputed'), START);
    expect(ledger.payment(1)).toMatchObject({ status: 'needs_review', disputed_at: START });
  });

  it.each(['dispute_won', 'dispute_lost'] as const)('ends the same in whatever order its news come: %s', (verdict) => {
    const news = [completed, about('disputed'), about(verdict)];
    fc.assert(
      fc.property(fc.shuffledSubarray([...news, ...news], { minLength: 6 }), (events) => {
        const ledger = new Ledger();
        ledger.open();
        for (const event of events) ledger.receive(event, START);
        const isWon = verdict === 'dispute_won';
        expect(ledger.payment(1)).toMatchObject({ status: isWon ? 'completed' : 'refunded', disputed_at: null });
        expect(subscriptionAt(ledger.chainOf(USER), START).status).toBe(isWon ? 'active' : 'revoked');
        expect(ledger.parked).toEqual([]);
      }),
    );
  });
});

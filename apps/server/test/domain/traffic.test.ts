import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addTraffic,
  crossesQuota,
  isQuotaExceeded,
  NO_TRAFFIC,
  type Traffic,
  trafficSince,
  utcDay,
} from '../../src/domain/traffic.ts';

const traffic = (rx_bytes: number, tx_bytes: number): Traffic => ({ rx_bytes, tx_bytes });

/** What can happen to a host between and during passes. */
type Step =
  | { readonly type: 'transfer'; readonly bytes: Traffic }
  /** The interface restarts, or the peer is taken off and put on again. */
  | { readonly type: 'reset' }
  | { readonly type: 'read' };

const amount = fc.oneof(
  fc.integer({ min: 0, max: 5 }),
  fc.maxSafeNat().map((bytes) => bytes % 1e12),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ type: fc.constant('transfer'), bytes: fc.tuple(amount, amount).map(([rx, tx]) => traffic(rx, tx)) }),
  fc.record({ type: fc.constant('reset') }),
  fc.record({ type: fc.constant('read') }),
);

/** The host's counters, what we made of them, and what really went through. */
class Model {
  host = NO_TRAFFIC;
  last = NO_TRAFFIC;
  counted = NO_TRAFFIC;
  real = NO_TRAFFIC;

  run(next: Step): void {
    if (next.type === 'reset') this.host = NO_TRAFFIC;
    if (next.type === 'read') this.read();
    if (next.type !== 'transfer') return;
    this.host = addTraffic(this.host, next.bytes);
    this.real = addTraffic(this.real, next.bytes);
  }

  read(): void {
    this.counted = addTraffic(this.counted, trafficSince(this.last, this.host));
    this.last = this.host;
  }
}

describe('traffic between two readings', () => {
  it.each([
    ['more', traffic(10, 20), traffic(15, 20), traffic(5, 0)],
    ['the same', traffic(10, 20), traffic(10, 20), NO_TRAFFIC],
    ['less', traffic(10, 20), traffic(3, 4), traffic(3, 4)],
    ['less of one, since both start again together', traffic(10, 20), traffic(3, 25), traffic(3, 25)],
    ['nothing any more', traffic(10, 20), NO_TRAFFIC, NO_TRAFFIC],
  ])('is right when the host shows %s', (_name, last, seen, went) => {
    expect(trafficSince(last, seen)).toEqual(went);
  });

  it('is never more than really went through, and never negative, whenever the host is reset', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = new Model();
        for (const next of steps) {
          const before = model.counted;
          model.run(next);
          expect(model.counted.rx_bytes).toBeGreaterThanOrEqual(before.rx_bytes);
          expect(model.counted.tx_bytes).toBeGreaterThanOrEqual(before.tx_bytes);
          expect(model.counted.rx_bytes).toBeLessThanOrEqual(model.real.rx_bytes);
          expect(model.counted.tx_bytes).toBeLessThanOrEqual(model.real.tx_bytes);
        }
      }),
    );
  });

  it('is all that went through when every reset comes between two readings that saw everything', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = new Model();
        for (const next of steps) {
          if (next.type === 'reset') model.read();
          model.run(next);
          if (next.type === 'reset') model.read();
        }
        model.read();
        expect(model.counted).toEqual(model.real);
      }),
    );
  });

  it('is nothing when the same is read again', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const model = new Model();
        for (const next of steps) model.run(next);
        model.read();
        const { counted } = model;
        model.read();
        expect(model.counted).toEqual(counted);
      }),
    );
  });
});

describe('a quota', () => {
  it('is used up by its last byte, and unlimited without one', () => {
    expect(isQuotaExceeded({ traffic_limit_bytes: 100, used_bytes: 99 })).toBe(false);
    expect(isQuotaExceeded({ traffic_limit_bytes: 100, used_bytes: 100 })).toBe(true);
    expect(isQuotaExceeded({ traffic_limit_bytes: null, used_bytes: Number.MAX_SAFE_INTEGER })).toBe(false);
  });

  it('is crossed once, however much more goes through', () => {
    expect(crossesQuota({ traffic_limit_bytes: 100, used_bytes: 99 }, 99)).toBe(false);
    expect(crossesQuota({ traffic_limit_bytes: 100, used_bytes: 130 }, 40)).toBe(true);
    expect(crossesQuota({ traffic_limit_bytes: 100, used_bytes: 130 }, 30)).toBe(false);
    expect(crossesQuota({ traffic_limit_bytes: null, used_bytes: 130 }, 130)).toBe(false);
  });
});

it('a day is that of UTC', () => {
  expect(utcDay('2026-12-31T23:59:59.999Z')).toBe('2026-12-31');
});

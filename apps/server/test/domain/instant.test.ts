import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addSeconds,
  epochMs,
  LAST_INSTANT,
  maxInstant,
  minInstant,
  parseInstant,
  secondsBetween,
  toInstant,
} from '../../src/domain/instant.ts';

const LAST_MS = epochMs(LAST_INSTANT);
const moments = fc.integer({ min: Date.UTC(1970, 0), max: LAST_MS });

describe('instants', () => {
  it('print back to the milliseconds they came from', () => {
    fc.assert(fc.property(moments, (ms) => epochMs(toInstant(ms)) === ms));
  });

  it('sort as text in the order of time', () => {
    fc.assert(
      fc.property(moments, moments, (a, b) => {
        expect(toInstant(a) < toInstant(b)).toBe(a < b);
        expect(maxInstant(toInstant(a), toInstant(b))).toBe(toInstant(Math.max(a, b)));
        expect(minInstant(toInstant(a), toInstant(b))).toBe(toInstant(Math.min(a, b)));
      }),
    );
  });

  it('add seconds exactly and stop at the year 9999', () => {
    fc.assert(
      fc.property(moments, fc.integer({ min: 0, max: 10 ** 12 }), (ms, seconds) => {
        const sum = addSeconds(toInstant(ms), seconds);
        expect(epochMs(sum)).toBe(Math.min(LAST_MS, ms + seconds * 1000));
        if (sum < LAST_INSTANT) expect(secondsBetween(toInstant(ms), sum)).toBe(seconds);
      }),
    );
    expect(addSeconds(LAST_INSTANT, Number.MAX_VALUE)).toBe(LAST_INSTANT);
  });

  it.each([
    ['2026-11-22T12:00:00Z', '2026-11-22T12:00:00.000Z'],
    ['2026-11-22t12:00:00.5z', '2026-11-22T12:00:00.500Z'],
    ['2026-11-22T12:00:00.123999Z', '2026-11-22T12:00:00.123Z'],
    ['2026-11-22T15:00:00+03:00', '2026-11-22T12:00:00.000Z'],
    ['2026-11-22T01:30:00-05:30', '2026-11-22T07:00:00.000Z'],
    ['2024-02-29T00:00:00.000Z', '2024-02-29T00:00:00.000Z'],
  ])('read %s', (text, expected) => {
    expect(parseInstant(text)).toBe(expected);
  });

  it.each([
    '',
    '2026-11-22',
    '2026-11-22T12:00:00',
    '2026-11-22 12:00:00Z',
    '2026-02-29T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-11-22T24:00:00Z',
    '2026-11-22T23:59:60Z',
    '2026-11-22T12:00:00+24:00',
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59-01:00',
    '+012026-11-22T12:00:00Z',
    '2026-11-22T12:00:00Z\n',
    '٢٠٢٦-11-22T12:00:00Z',
  ])('refuse %j', (text) => {
    expect(parseInstant(text)).toBeUndefined();
  });

  it('read back every text they print, in any zone', () => {
    fc.assert(
      fc.property(moments, fc.integer({ min: -14 * 60, max: 14 * 60 }), (ms, offset) => {
        const wall = ms + offset * 60_000;
        fc.pre(wall >= 0 && wall <= LAST_MS);
        const sign = offset < 0 ? '-' : '+';
        const zone = [Math.trunc(Math.abs(offset) / 60), Math.abs(offset) % 60].map((n) => String(n).padStart(2, '0'));
        expect(parseInstant(toInstant(wall).replace('Z', `${sign}${zone.join(':')}`))).toBe(toInstant(ms));
      }),
    );
  });

  it('call text in another form a bug', () => {
    for (const text of ['2026-11-22T12:00:00Z', 'yesterday', '']) expect(() => epochMs(text)).toThrow(RangeError);
    for (const ms of [Number.NaN, 0.5, LAST_MS + 1, -1e15]) expect(() => toInstant(ms)).toThrow(RangeError);
  });
});

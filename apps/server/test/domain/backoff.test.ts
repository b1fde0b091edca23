import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BACKOFF_CAP_SECONDS, backoffSeconds, backoffWindowSeconds } from '../../src/domain/backoff.ts';

const attempts = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.maxSafeNat());
const random01 = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('the wait between attempts', () => {
  it('is whole seconds from 1 to the window of its attempt, never past the cap', () => {
    fc.assert(
      fc.property(attempts, random01, (attempt, random) => {
        const seconds = backoffSeconds(attempt, random);
        expect(Number.isInteger(seconds)).toBe(true);
        expect(seconds).toBeGreaterThanOrEqual(1);
        expect(seconds).toBeLessThanOrEqual(backoffWindowSeconds(attempt));
        expect(backoffWindowSeconds(attempt)).toBeLessThanOrEqual(BACKOFF_CAP_SECONDS);
      }),
    );
  });

  it('has a window that never shrinks from one attempt to the next, and reaches the cap', () => {
    const windows = Array.from({ length: 100 }, (_, attempt) => backoffWindowSeconds(attempt + 1));
    expect(windows).toEqual(windows.toSorted((a, b) => a - b));
    expect(windows.slice(0, 3)).toEqual([2, 4, 8]);
    expect(windows.at(-1)).toBe(BACKOFF_CAP_SECONDS);
  });

  it('uses the whole window, so that many peers of one host spread out', () => {
    expect(backoffSeconds(20, 0)).toBe(1);
    expect(backoffSeconds(20, 0.5)).toBe(30);
    expect(backoffSeconds(20, 0.999_999)).toBe(60);
  });
});

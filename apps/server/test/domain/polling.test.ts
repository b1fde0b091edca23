import { describe, expect, it } from 'vitest';
import { addSeconds, DAY_SECONDS, toInstant } from '../../src/domain/instant.ts';
import type { PaymentStatus } from '../../src/domain/payment.ts';
import { firstPollAt, nextPollAt, retryAt } from '../../src/domain/polling.ts';

const CREATED = toInstant(Date.UTC(2026, 0, 2, 3, 4, 5));
const pollSeconds = [300, 3_600, 86_400];
const HOUR = 3_600;

/** The age of the payment when it is asked about after it was asked about at `age`. */
function next(status: PaymentStatus, age: number, more: { isFinal?: boolean; lastChargeAge?: number } = {}) {
  const { isFinal = false, lastChargeAge } = more;
  const last_charge_at = lastChargeAge === undefined ? null : addSeconds(CREATED, lastChargeAge);
  const now = addSeconds(CREATED, age);
  const at = nextPollAt({ status, created_at: CREATED, last_charge_at }, { now, pollSeconds, isFinal });
  return at === null ? null : (Date.parse(at) - Date.parse(CREATED)) / 1000;
}

describe('a payment is asked about', () => {
  it('after five minutes, an hour and a day, and then daily for ever, while it is open', () => {
    expect(firstPollAt(CREATED, pollSeconds)).toBe(addSeconds(CREATED, 300));
    const ages = [300];
    for (let n = 0; n < 400; n += 1) ages.push(next('pending', ages.at(-1) ?? 0) ?? 0);
    expect(ages.slice(0, 5)).toEqual([300, HOUR, 24 * HOUR, 48 * HOUR, 72 * HOUR]);
    expect(ages.at(-1)).toBe(399 * DAY_SECONDS);
  });

  it('as often when it has failed, for its provider may not be sure', () => {
    expect([next('failed', 300), next('failed', 500 * DAY_SECONDS)]).toEqual([HOUR, 501 * DAY_SECONDS]);
  });

  it('daily for five weeks once it has failed for good, or its money came', () => {
    for (const status of ['failed', 'completed', 'partially_refunded', 'needs_review'] as const) {
      expect(next(status, 300, { isFinal: true }), status).toBe(300 + DAY_SECONDS);
      expect(next(status, 35 * DAY_SECONDS - 1, { isFinal: true }), status).toBe(36 * DAY_SECONDS - 1);
      expect(next(status, 35 * DAY_SECONDS, { isFinal: true }), status).toBeNull();
    }
  });

  it('for as long again after each further charge', () => {
    const renewed = { isFinal: true, lastChargeAge: 30 * DAY_SECONDS };
    expect(next('completed', 60 * DAY_SECONDS, renewed)).toBe(61 * DAY_SECONDS);
    expect(next('completed', 65 * DAY_SECONDS, renewed)).toBeNull();
  });

  it('no more when all of it went back', () => {
    expect(next('refunded', 300)).toBeNull();
  });

  it('again after ten seconds when asking brought nothing, then ever later up to an hour', () => {
    const delays = Array.from({ length: 30 }, (_, n) => Date.parse(retryAt(CREATED, n + 1)) - Date.parse(CREATED));
    expect(delays.slice(0, 4)).toEqual([10_000, 20_000, 40_000, 80_000]);
    expect(delays.every((delay, n) => delay >= (delays[n - 1] ?? 0) && delay <= 3_600_000)).toBe(true);
    expect(delays.at(-1)).toBe(3_600_000);
  });
});

import { addSeconds, DAY_SECONDS, toInstant } from '../../src/domain/instant.ts';
import type { MovablePeriod, PeriodRecord, TariffTerms } from '../../src/domain/subscription.ts';

/** Noon of day 0 of every example. */
export const START = toInstant(Date.UTC(2026, 10, 22, 12));

/** The moment `days` after the start. */
export function day(days: number): ReturnType<typeof addSeconds> {
  return addSeconds(START, days * DAY_SECONDS);
}

type PeriodRow = PeriodRecord & MovablePeriod;

/** A 30-day period granted at the start, with what the example needs changed. */
export function period(overrides: Partial<PeriodRow> = {}): PeriodRow {
  const seq = overrides.seq ?? 1;
  return {
    id: 100 + seq,
    seq,
    user_id: 7,
    tariff_id: 3,
    tariff_name: 'Month',
    granted_at: START,
    length_seconds: 30 * DAY_SECONDS,
    cut_seconds: 0,
    moved_seconds: 0,
    rest_of_id: null,
    revoked_at: null,
    grace_days: 0,
    device_limit: 1,
    traffic_limit_bytes: null,
    duration_days: 30,
    price_minor: 999,
    currency: 'USD',
    source: 'payment',
    payment_id: seq,
    reason: null,
    used_bytes: 0,
    ...overrides,
  };
}

export function terms(overrides: Partial<TariffTerms> = {}): TariffTerms {
  return {
    tariff_id: 3,
    tariff_name: 'Month',
    duration_days: 30,
    device_limit: 1,
    traffic_limit_bytes: null,
    grace_days: 0,
    ...overrides,
  };
}

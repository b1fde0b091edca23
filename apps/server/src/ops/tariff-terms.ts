import type { TariffWithPrices } from '@vpn-api/db';

/** A tariff as sold: stored with the payment, so that a later change of the tariff changes nothing that was quoted. */
export interface TariffTerms {
  readonly name: string;
  readonly duration_days: number | null;
  readonly device_limit: number;
  readonly traffic_limit_bytes: number | null;
  readonly grace_days: number;
}

export function termsOf(tariff: TariffWithPrices): TariffTerms {
  const { name, duration_days, device_limit, traffic_limit_bytes, grace_days } = tariff;
  return { name, duration_days, device_limit, traffic_limit_bytes, grace_days };
}

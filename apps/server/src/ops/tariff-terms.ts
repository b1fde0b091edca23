import type { TariffWithPrices } from '@vpn-api/db';
import type { TariffTerms } from '../domain/subscription.ts';

/** A tariff as it is sold now: stored with the payment, so that a later change of the tariff changes no quote. */
export function termsOf(tariff: TariffWithPrices): TariffTerms {
  const { id, name, duration_days, device_limit, traffic_limit_bytes, grace_days } = tariff;
  return { tariff_id: id, tariff_name: name, duration_days, device_limit, traffic_limit_bytes, grace_days };
}

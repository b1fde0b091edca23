import type { TariffWithPrices } from '@vpn-api/db';
import type { z } from 'zod';
import { formatAmount } from '../../domain/money.ts';
import { firstPrice } from '../../ops/tariff-terms.ts';
import type { tariffSchema } from './schemas.ts';

/** `price` and `currency` are for clients that know a single price. */
export function tariffView(tariff: TariffWithPrices): z.output<typeof tariffSchema> {
  const prices = tariff.prices.map((price) => ({
    currency: price.currency,
    amount: formatAmount(price.amount_minor, price.currency),
    ...(price.providers === null ? {} : { providers: [...price.providers] }),
  }));
  const first = firstPrice(tariff);
  return {
    id: tariff.id,
    name: tariff.name,
    description: tariff.description,
    duration_days: tariff.duration_days,
    price: formatAmount(first.amount_minor, first.currency),
    currency: first.currency,
    prices,
    device_limit: tariff.device_limit,
    traffic_limit_bytes: tariff.traffic_limit_bytes,
    trial: tariff.trial === 1,
    grace_days: tariff.grace_days,
    archived: tariff.archived_at !== null,
    created_at: tariff.created_at,
  };
}

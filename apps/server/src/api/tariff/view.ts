import type { TariffWithPrices } from '@vpn-api/db';
import type { z } from 'zod';
import type { AmountMinor } from '../../domain/money.ts';
import { type Currency, formatAmount } from '../../domain/money.ts';
import type { tariffSchema } from './schemas.ts';

/** The first price is the one that clients which know a single price read. */
export function tariffView(tariff: TariffWithPrices): z.output<typeof tariffSchema> {
  const prices = tariff.prices.map((price) => ({
    currency: price.currency,
    amount: formatAmount(price.amount_minor as AmountMinor, price.currency as Currency),
    ...(price.providers === null ? {} : { providers: [...price.providers] }),
  }));
  const [first] = prices;
  if (first === undefined) throw new Error(`tariff ${tariff.id} has no price`);
  return {
    id: tariff.id,
    name: tariff.name,
    description: tariff.description,
    duration_days: tariff.duration_days,
    price: first.amount,
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

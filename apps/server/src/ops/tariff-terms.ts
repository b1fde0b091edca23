import { isUniqueViolation, type Queryable, type TariffPriceRow, type TariffWithPrices } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { TariffTerms } from '../domain/subscription.ts';

/** A tariff as it is sold now: stored with the payment, so that a later change of the tariff changes no quote. */
export function termsOf(tariff: TariffWithPrices): TariffTerms {
  const { id, name, duration_days, device_limit, traffic_limit_bytes, grace_days } = tariff;
  return { tariff_id: id, tariff_name: name, duration_days, device_limit, traffic_limit_bytes, grace_days };
}

/** The price shown as the tariff's own. Every tariff has one: creating and updating refuse to leave none. */
export function firstPrice(tariff: TariffWithPrices): TariffPriceRow {
  const [price] = tariff.prices;
  if (price === undefined) throw new Error(`tariff ${tariff.id} has no price`);
  return price;
}

/** Names what a broken unique rule means for somebody who writes a tariff. */
export function asTariffError(error: unknown): unknown {
  if (isUniqueViolation(error) !== 'tariffs(name)') return error;
  return new DomainError('tariff_exists', { cause: error });
}

/** Names the one foreign key that a sale can break: the tariff was deleted between reading it and selling it. */
export function asSaleError({ dialect }: Pick<Queryable, 'dialect'>, error: unknown): unknown {
  if (!dialect.isForeignKeyViolation(error)) return error;
  return new DomainError('tariff_not_found', { cause: error });
}

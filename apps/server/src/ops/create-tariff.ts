import { insertTariff, type TariffWithPrices } from '@vpn-api/db';
import { invalidField } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import { type PricesInput, priceRows } from './tariff-prices.ts';
import { asTariffError } from './tariff-terms.ts';

export interface CreateTariff extends PricesInput {
  readonly name: string;
  readonly description?: string | null | undefined;
  /** Absent: 30 days. null: a lifetime. */
  readonly duration_days?: number | null | undefined;
  readonly device_limit?: number | null | undefined;
  readonly traffic_limit_bytes?: number | null | undefined;
  readonly trial?: boolean | null | undefined;
  readonly grace_days?: number | null | undefined;
}

const DEFAULT_DAYS = 30;

/** @throws DomainError `tariff_exists`, `validation_failed` */
export async function createTariff(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  input: CreateTariff,
  { source, beforeCommit }: Committing<TariffWithPrices>,
): Promise<TariffWithPrices> {
  const prices = priceRows(input);
  if (prices === undefined) throw invalidField('price', 'is required');
  const now = clock.now();
  try {
    return await store.transaction(async (tx) => {
      const tariff = await insertTariff(tx, { ...tariffColumns(input), created_at: now }, prices);
      const details = { name: input.name };
      await audit(tx, { ...source, at: now, action: 'tariff.create', target: `tariff:${tariff.id}`, details });
      await beforeCommit(tx, tariff);
      return tariff;
    });
  } catch (error) {
    throw asTariffError(error);
  }
}

function tariffColumns(input: CreateTariff) {
  return {
    name: input.name,
    description: input.description ?? null,
    duration_days: input.duration_days === undefined ? DEFAULT_DAYS : input.duration_days,
    device_limit: input.device_limit ?? 1,
    traffic_limit_bytes: input.traffic_limit_bytes ?? null,
    trial: input.trial === true ? 1 : 0,
    grace_days: input.grace_days ?? 0,
  };
}

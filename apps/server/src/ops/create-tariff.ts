import { insertTariff, isUniqueViolation, type TariffWithPrices, type Tx } from '@vpn-api/db';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { type PricesInput, priceRows } from './tariff-prices.ts';

export interface CreateTariffInput extends PricesInput {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly duration_days?: number | null | undefined;
  readonly device_limit?: number | null | undefined;
  readonly traffic_limit_bytes?: number | null | undefined;
  readonly trial?: boolean | null | undefined;
  readonly grace_days?: number | null | undefined;
}

export interface Committing<Row> {
  readonly source: AuditSource;
  /** Runs last in the transaction: what it stores is there exactly when the row is. */
  readonly beforeCommit: (tx: Tx, row: Row) => Promise<void>;
}

const DEFAULT_DAYS = 30;

/** @throws DomainError `tariff_exists`, `validation_failed` */
export async function createTariff(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  input: CreateTariffInput,
  { source, beforeCommit }: Committing<TariffWithPrices>,
): Promise<TariffWithPrices> {
  const prices = priceRows(input);
  if (prices === undefined) throw invalidField('price', 'is required');
  const now = clock.now();
  const row = {
    name: input.name,
    description: input.description ?? null,
    // Only an absent key means the default; an explicit null is a lifetime.
    duration_days: input.duration_days === undefined ? DEFAULT_DAYS : input.duration_days,
    device_limit: input.device_limit ?? 1,
    traffic_limit_bytes: input.traffic_limit_bytes ?? null,
    trial: input.trial === true ? 1 : 0,
    grace_days: input.grace_days ?? 0,
    created_at: now,
  };
  try {
    return await store.transaction(async (tx) => {
      const tariff = await insertTariff(tx, row, prices);
      await audit(tx, { ...source, at: now, action: 'tariff.create', target: `tariff:${tariff.id}`, details: { name: input.name } });
      await beforeCommit(tx, tariff);
      return tariff;
    });
  } catch (error) {
    if (isUniqueViolation(error)?.includes('name')) throw new DomainError('tariff_exists', { cause: error });
    throw error;
  }
}

import {
  findTariff,
  lockTariff,
  replacePrices,
  type TariffPatch,
  type TariffWithPrices,
  type Tx,
  updateTariffRow,
} from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { changedPrices, type PricesInput } from './tariff-prices.ts';
import { asTariffError } from './tariff-terms.ts';

/** What is absent stays as it is; null clears what may be null. */
export interface TariffChanges extends PricesInput {
  readonly name?: string | undefined;
  readonly description?: string | null | undefined;
  readonly duration_days?: number | null | undefined;
  readonly device_limit?: number | undefined;
  readonly traffic_limit_bytes?: number | null | undefined;
  readonly trial?: boolean | undefined;
  readonly grace_days?: number | undefined;
}

interface UpdateTariff {
  readonly tariffId: number;
  readonly changes: TariffChanges;
  readonly source: AuditSource;
}

/**
 * Changes what is sold from now on. Periods and payments keep the terms they were sold with.
 * @throws DomainError `tariff_not_found`, `tariff_exists`, `validation_failed`
 */
export async function updateTariff(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { tariffId, changes, source }: UpdateTariff,
): Promise<TariffWithPrices> {
  const now = clock.now();
  try {
    return await store.transaction(async (tx) => {
      const before = await lockTariff(tx, tariffId);
      if (before === undefined) throw new DomainError('tariff_not_found');
      await applyChanges(tx, before, changes);
      const details = { ...changes };
      await audit(tx, { ...source, at: now, action: 'tariff.update', target: `tariff:${tariffId}`, details });
      return (await findTariff(tx, tariffId)) ?? before;
    });
  } catch (error) {
    throw asTariffError(error);
  }
}

async function applyChanges(tx: Tx, before: TariffWithPrices, changes: TariffChanges): Promise<void> {
  const { price, prices, currency, trial, ...columns } = changes;
  const patch: TariffPatch = { ...columns, ...(trial === undefined ? {} : { trial: trial ? 1 : 0 }) };
  const isChanged = Object.values(patch).some((value) => value !== undefined);
  if (isChanged) await updateTariffRow(tx, before.id, patch);
  const rows = changedPrices(before.prices, { price, prices, currency });
  if (rows !== undefined) await replacePrices(tx, before.id, rows);
}

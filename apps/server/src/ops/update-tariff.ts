import { isUniqueViolation, lockTariff, replacePrices, type TariffWithPrices, type Tx, updateTariffRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import type { CreateTariffInput } from './create-tariff.ts';
import { priceRows } from './tariff-prices.ts';

interface UpdateTariff {
  readonly tariffId: number;
  readonly changes: Partial<CreateTariffInput>;
  readonly source: AuditSource;
}

/**
 * Changes what is sold from now on. Periods and open payments keep the terms they were sold with.
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
      await audit(tx, { ...source, at: now, action: 'tariff.update', target: `tariff:${tariffId}`, details: { ...changes } });
      return (await lockTariff(tx, tariffId)) as TariffWithPrices;
    });
  } catch (error) {
    if (isUniqueViolation(error)?.includes('name')) throw new DomainError('tariff_exists', { cause: error });
    throw error;
  }
}

async function applyChanges(tx: Tx, before: TariffWithPrices, changes: Partial<CreateTariffInput>): Promise<void> {
  const { price, prices, currency, trial, ...columns } = changes;
  const row = {
    ...dropUndefined(columns),
    ...(trial == null ? {} : { trial: trial ? 1 : 0 }),
  };
  if (Object.keys(row).length > 0) await updateTariffRow(tx, before.id, row);
  const rows = newPrices(before, { price, prices, currency });
  if (rows !== undefined) await replacePrices(tx, before.id, rows);
}

/** A lone `price` replaces the price in its currency (by default the first one's) and leaves the others. */
function newPrices(before: TariffWithPrices, input: Pick<CreateTariffInput, 'price' | 'prices' | 'currency'>) {
  if (input.price == null) return priceRows(input);
  const currency = input.currency ?? before.prices[0]?.currency;
  const [changed] = priceRows({ ...input, currency }) ?? [];
  if (changed === undefined) return undefined;
  const known = before.prices.some((row) => row.currency === changed.currency);
  const kept = before.prices.map(({ currency, amount_minor, providers }) => ({ currency, amount_minor, providers }));
  if (!known) return [...kept, changed];
  return kept.map((row) => (row.currency === changed.currency ? { ...row, amount_minor: changed.amount_minor } : row));
}

function dropUndefined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

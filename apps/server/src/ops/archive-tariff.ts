import { lockTariff, type TariffWithPrices, updateTariffRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';

interface ArchiveTariff {
  readonly tariffId: number;
  readonly source: AuditSource;
}

/**
 * Takes a tariff off sale; what was sold stays. Archiving twice keeps the first instant.
 * @throws DomainError `tariff_not_found`
 */
export async function archiveTariff(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { tariffId, source }: ArchiveTariff,
): Promise<TariffWithPrices> {
  const now = clock.now();
  return store.transaction(async (tx) => {
    const tariff = await lockTariff(tx, tariffId);
    if (tariff === undefined) throw new DomainError('tariff_not_found');
    if (tariff.archived_at !== null) return tariff;
    await updateTariffRow(tx, tariffId, { archived_at: now });
    await audit(tx, { ...source, at: now, action: 'tariff.archive', target: `tariff:${tariffId}`, details: {} });
    return { ...tariff, archived_at: now };
  });
}

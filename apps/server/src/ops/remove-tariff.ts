import { deleteTariff, isTariffSold, lockTariff } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';

interface RemoveTariff {
  readonly tariffId: number;
  readonly source: AuditSource;
}

/**
 * Deletes a tariff that no payment and no period names.
 * @throws DomainError `tariff_not_found`, `tariff_in_use`
 */
export async function removeTariff(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { tariffId, source }: RemoveTariff,
): Promise<void> {
  const now = clock.now();
  await store.transaction(async (tx) => {
    // The lock also waits for a sale that is being written: its foreign key holds the row.
    const tariff = await lockTariff(tx, tariffId);
    if (tariff === undefined) throw new DomainError('tariff_not_found');
    if (await isTariffSold(tx, tariffId)) throw new DomainError('tariff_in_use');
    await deleteTariff(tx, tariffId);
    const details = { name: tariff.name };
    await audit(tx, { ...source, at: now, action: 'tariff.remove', target: `tariff:${tariffId}`, details });
  });
}

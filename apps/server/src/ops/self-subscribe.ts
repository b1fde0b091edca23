import { findTariff } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import type { Committing } from './committing.ts';
import { type Granted, grantSubscription } from './grant-subscription.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'outbox' | 'config'>;

/**
 * Gives a user a tariff on his own word, for demos: refused unless the configuration allows it.
 * @throws DomainError `self_subscribe_disabled`, `tariff_not_found`, `tariff_archived`, `already_lifetime`
 */
export async function selfSubscribe(
  deps: Deps,
  { userId, tariffId }: { readonly userId: number; readonly tariffId: number },
  committing: Committing<Granted>,
): Promise<Granted> {
  if (!deps.config.auth.allowSelfSubscribe) throw new DomainError('self_subscribe_disabled');
  const tariff = await findTariff(deps.store, tariffId);
  if (tariff === undefined) throw new DomainError('tariff_not_found');
  if (tariff.archived_at !== null) throw new DomainError('tariff_archived');
  return grantSubscription(deps, { userId, tariffId, reason: 'self-service' }, committing);
}

import { findPeriod } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { revokeCut } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { type Chain, cutPeriod, loadChain, lockChain } from './subscription-chain.ts';
import { wakeHostsOf } from './wake-hosts.ts';

interface RevokePeriod {
  readonly periodId: number;
  readonly reason: string;
  readonly source: AuditSource;
}

/**
 * Takes back what is left of a period; used time stays as it was. Answers the chain that remains.
 * @throws DomainError `period_not_found`, `period_over`, `user_not_found`
 */
export async function revokePeriod(
  { store, clock, reconciler }: Pick<Services, 'store' | 'clock' | 'reconciler'>,
  { periodId, reason, source }: RevokePeriod,
): Promise<Chain> {
  const now = clock.now();
  return store.transaction(async (tx) => {
    const found = await findPeriod(tx, periodId);
    if (found === undefined) throw new DomainError('period_not_found');
    const chain = await lockChain(tx, found.user_id);
    const period = chain.find(({ id }) => id === periodId);
    if (period === undefined || period.revoked_at !== null) throw new DomainError('period_over');
    if (period.ends_at !== null && period.ends_at <= now) throw new DomainError('period_over');
    await cutPeriod(tx, chain, periodId, revokeCut(period, now));
    const details = { period_id: periodId, reason };
    await audit(tx, { ...source, at: now, action: 'subscription.revoke', target: `user:${found.user_id}`, details });
    await wakeHostsOf({ reconciler }, tx, found.user_id);
    return loadChain(tx, found.user_id);
  });
}

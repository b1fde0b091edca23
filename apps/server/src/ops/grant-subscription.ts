import { findTariff, lockUser, type SubscriptionPeriodRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { hasLifetime } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './create-tariff.ts';
import { type Chain, grantPeriod, loadChain } from './subscription-chain.ts';
import { termsOf } from './tariff-terms.ts';

export interface GrantSubscription {
  readonly userId: number;
  readonly tariffId: number;
  readonly reason?: string | undefined;
}

export interface Granted {
  readonly period: SubscriptionPeriodRow;
  readonly chain: Chain;
}

/**
 * Gives a user a tariff without a payment, behind what he has.
 * @throws DomainError `user_not_found`, `tariff_not_found`, `already_lifetime`
 */
export async function grantSubscription(
  { store, clock, reconciler }: Pick<Services, 'store' | 'clock' | 'reconciler'>,
  input: GrantSubscription,
  { source, beforeCommit }: Committing<Granted>,
): Promise<Granted> {
  const now = clock.now();
  return store.transaction(async (tx) => {
    const chain = await lockChain(tx, input.userId);
    const tariff = await findTariff(tx, input.tariffId);
    if (tariff === undefined) throw new DomainError('tariff_not_found');
    if (hasLifetime(chain)) throw new DomainError('already_lifetime');
    const [price] = tariff.prices;
    const period = await grantPeriod(tx, chain, {
      userId: input.userId,
      terms: termsOf(tariff),
      // Nothing was paid: a grant shows the list price and can never be refunded, since it has no payment.
      origin: { source: 'admin', payment_id: null, price_minor: price?.amount_minor ?? 0, currency: price?.currency ?? 'USD', reason: input.reason ?? null },
      now,
    });
    const details = { tariff_id: input.tariffId, period_id: period.id, reason: input.reason ?? null };
    await audit(tx, { ...source, at: now, action: 'subscription.grant', target: `user:${input.userId}`, details });
    const granted = { period, chain: await loadChain(tx, input.userId) };
    await beforeCommit(tx, granted);
    tx.onCommit(() => reconciler.wake());
    return granted;
  });
}

/** @throws DomainError `user_not_found`, also for a removed one */
export async function lockChain(tx: Tx, userId: number): Promise<Chain> {
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  return loadChain(tx, userId);
}

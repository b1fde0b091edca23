import { findTariff, type SubscriptionPeriodRow, type TariffWithPrices, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { hasLifetime, type PeriodOrigin } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import { type Chain, grantPeriod, loadChain, lockChain } from './subscription-chain.ts';
import { asSaleError, firstPrice, termsOf } from './tariff-terms.ts';
import { tellPeriod } from './tell-money.ts';
import { wakeHostsOf } from './wake-hosts.ts';

export interface GrantSubscription {
  readonly userId: number;
  readonly tariffId: number;
  readonly reason?: string | undefined;
}

export interface Granted {
  readonly period: SubscriptionPeriodRow;
  readonly chain: Chain;
  /** When it was granted: seen from any moment before, a first period has not begun. */
  readonly at: Instant;
}

/**
 * Gives a user a tariff without a payment, behind what he has.
 * @throws DomainError `user_not_found`, `tariff_not_found`, `already_lifetime`
 */
export async function grantSubscription(
  { store, clock, reconciler, outbox }: Pick<Services, 'store' | 'clock' | 'reconciler' | 'outbox'>,
  input: GrantSubscription,
  { source, beforeCommit }: Committing<Granted>,
): Promise<Granted> {
  const now = clock.now();
  const target = `user:${input.userId}`;
  try {
    return await store.transaction(async (tx) => {
      const period = await appendGrant(tx, input, now);
      const details = { tariff_id: input.tariffId, period_id: period.id, reason: input.reason ?? null };
      await audit(tx, { ...source, at: now, action: 'subscription.grant', target, details });
      await tellPeriod({ clock, outbox }, tx, period);
      const granted = { period, chain: await loadChain(tx, input.userId), at: now };
      await beforeCommit(tx, granted);
      await wakeHostsOf({ reconciler }, tx, input.userId);
      return granted;
    });
  } catch (error) {
    throw asSaleError(store, error);
  }
}

async function appendGrant(tx: Tx, input: GrantSubscription, now: Instant): Promise<SubscriptionPeriodRow> {
  const { userId, tariffId, reason } = input;
  const chain = await lockChain(tx, userId);
  const tariff = await findTariff(tx, tariffId);
  if (tariff === undefined) throw new DomainError('tariff_not_found');
  if (hasLifetime(chain)) throw new DomainError('already_lifetime');
  return grantPeriod(tx, chain, { userId, terms: termsOf(tariff), origin: grantOrigin(tariff, reason), now });
}

/** Nothing was paid: a grant shows the list price and can never be refunded, since it has no payment. */
function grantOrigin(tariff: TariffWithPrices, reason: string | undefined): PeriodOrigin {
  const { amount_minor, currency } = firstPrice(tariff);
  return { source: 'admin', payment_id: null, price_minor: amount_minor, currency, reason: reason ?? null };
}

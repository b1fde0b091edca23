import {
  findTariff,
  hasHadPeriod,
  insertTrialClaimOnce,
  listTrialTariffs,
  lockUser,
  type TariffWithPrices,
  type Tx,
} from '@vpn-api/db';
import type { AccountActor } from '../api/actor.ts';
import { trialIdentity } from '../crypto/trial-identity.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { assertMayActFor } from './act-for-user.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import type { Granted } from './grant-subscription.ts';
import { grantPeriod, loadChain } from './subscription-chain.ts';
import { asSaleError, firstPrice, termsOf } from './tariff-terms.ts';
import { tellPeriod } from './tell-money.ts';
import { wakeHostsOf } from './wake-hosts.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'outbox' | 'config'>;

interface StartTrial {
  readonly caller: AccountActor;
  readonly userId: number;
  /** May be left out where there is one trial. */
  readonly tariffId?: number | undefined;
}

/**
 * Gives a user a trial: once in his life and once in that of his Telegram id, and only to those who never had anything,
 * paid or given. The claim outlives the account.
 * @throws DomainError `user_not_found`, `not_allowed`, `tariff_not_found`, `trial_not_available`, `trial_used`
 */
export async function startTrial(
  deps: Deps,
  input: StartTrial,
  { source, beforeCommit }: Committing<Granted>,
): Promise<Granted> {
  const { store, clock, reconciler } = deps;
  const at = clock.now();
  try {
    return await store.transaction(async (tx) => {
      await claimTrial(deps, tx, input, at);
      const tariff = await chooseTrial(tx, input.tariffId);
      const origin = { source: 'trial', payment_id: null, price_minor: 0, reason: null } as const;
      const { currency } = firstPrice(tariff);
      const grant = { userId: input.userId, terms: termsOf(tariff), origin: { ...origin, currency }, now: at };
      const period = await grantPeriod(tx, await loadChain(tx, input.userId), grant);
      const details = { tariff_id: tariff.id, period_id: period.id };
      await audit(tx, { ...source, at, action: 'subscription.trial', target: `user:${input.userId}`, details });
      await tellPeriod(deps, tx, period);
      const granted = { period, chain: await loadChain(tx, input.userId), at };
      await beforeCommit(tx, granted);
      await wakeHostsOf({ reconciler }, tx, input.userId);
      return granted;
    });
  } catch (error) {
    throw asSaleError(store, error);
  }
}

async function claimTrial({ config }: Deps, tx: Tx, { caller, userId }: StartTrial, at: string): Promise<void> {
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  assertMayActFor(caller, user);
  if (await hasHadPeriod(tx, userId)) throw new DomainError('trial_used');
  const { telegram_id } = user;
  const identity_hash = telegram_id === null ? null : trialIdentity(config.secrets.secretKey, telegram_id);
  const isFirst = await insertTrialClaimOnce(tx, { user_id: userId, identity_hash, claimed_at: at });
  if (!isFirst) throw new DomainError('trial_used');
}

async function chooseTrial(tx: Tx, tariffId: number | undefined): Promise<TariffWithPrices> {
  if (tariffId === undefined) {
    const [only, ...others] = await listTrialTariffs(tx);
    if (only === undefined || others.length > 0) throw new DomainError('trial_not_available');
    return only;
  }
  const tariff = await findTariff(tx, tariffId);
  if (tariff === undefined) throw new DomainError('tariff_not_found');
  if (tariff.trial !== 1 || tariff.archived_at !== null) throw new DomainError('trial_not_available');
  return tariff;
}

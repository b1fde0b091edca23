import {
  findServer,
  listPeriodsForUsers,
  listUsersOfServer,
  lockUsers,
  type SubscriptionPeriodRow,
  type Tx,
} from '@vpn-api/db';
import { DomainError, type ErrorCode, invalidField } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { compensationTerms, foldPeriods, hasLifetime, subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import { type Chain, grantPeriod, lockChain } from './subscription-chain.ts';
import { tellPeriod } from './tell-money.ts';

export interface ExtendSubscription {
  readonly userId?: number | undefined;
  readonly serverId?: number | undefined;
  readonly days: number;
  readonly reason: string;
}

/**
 * Compensates one user, or everybody with a device on a server, with further days on the terms they have. Answers how
 * many users got them; by server, users without a running subscription or with a lifetime are passed over. All of it is
 * one transaction: a repeat after a crash must find either nobody or everybody compensated.
 * @throws DomainError `user_not_found`, `server_not_found`, `nothing_to_extend`, `already_lifetime`, `validation_failed`
 */
export async function extendSubscription(
  { store, clock, reconciler, outbox }: Pick<Services, 'store' | 'clock' | 'reconciler' | 'outbox'>,
  input: ExtendSubscription,
  { source, beforeCommit }: Committing<number>,
): Promise<number> {
  const target = targetOf(input);
  const now = clock.now();
  return store.transaction(async (tx) => {
    const periods = await extendTarget(tx, { ...input, ...target, now });
    const details = { days: input.days, reason: input.reason, period_ids: periods.map(({ id }) => id) };
    const name = target.kind === 'user' ? `user:${target.id}` : `server:${target.id}`;
    await audit(tx, { ...source, at: now, action: 'subscription.extend', target: name, details });
    for (const period of periods) await tellPeriod({ clock, outbox }, tx, period);
    await beforeCommit(tx, periods.length);
    tx.onCommit(() => reconciler.wake());
    return periods.length;
  });
}

interface Target {
  readonly kind: 'user' | 'server';
  readonly id: number;
}

function targetOf({ userId, serverId }: ExtendSubscription): Target {
  if (userId !== undefined && serverId === undefined) return { kind: 'user', id: userId };
  if (serverId !== undefined && userId === undefined) return { kind: 'server', id: serverId };
  throw invalidField('user_id', 'send either user_id or server_id');
}

interface Extension extends Target {
  readonly days: number;
  readonly reason: string;
  readonly now: Instant;
}

function extendTarget(tx: Tx, extension: Extension): Promise<SubscriptionPeriodRow[]> {
  return extension.kind === 'user' ? extendUser(tx, extension) : extendServer(tx, extension);
}

async function extendUser(tx: Tx, extension: Extension): Promise<SubscriptionPeriodRow[]> {
  const chain = await lockChain(tx, extension.id);
  const obstacle = findObstacle(chain, extension.now);
  if (obstacle !== undefined) throw new DomainError(obstacle);
  return [await appendDays(tx, chain, extension)];
}

async function extendServer(tx: Tx, extension: Extension): Promise<SubscriptionPeriodRow[]> {
  if ((await findServer(tx, extension.id)) === undefined) throw new DomainError('server_not_found');
  const users = await lockUsers(tx, await listUsersOfServer(tx, extension.id));
  const present = users.filter(({ removed_at }) => removed_at === null).map(({ id }) => id);
  const byUser = Map.groupBy(await listPeriodsForUsers(tx, present), ({ user_id }) => user_id);
  const periods: SubscriptionPeriodRow[] = [];
  for (const rows of byUser.values()) {
    const chain = foldPeriods(rows);
    if (findObstacle(chain, extension.now) === undefined) periods.push(await appendDays(tx, chain, extension));
  }
  return periods;
}

function findObstacle(chain: Chain, now: Instant): ErrorCode | undefined {
  const { status } = subscriptionAt(chain, now);
  if (status !== 'active' && status !== 'grace') return 'nothing_to_extend';
  return hasLifetime(chain) ? 'already_lifetime' : undefined;
}

async function appendDays(tx: Tx, chain: Chain, { days, reason, now }: Extension): Promise<SubscriptionPeriodRow> {
  const last = chain.findLast((period) => period.revoked_at === null);
  if (last === undefined) throw new DomainError('nothing_to_extend');
  return grantPeriod(tx, chain, {
    userId: last.user_id,
    terms: compensationTerms(last, days),
    origin: { source: 'admin', payment_id: null, price_minor: 0, currency: last.currency, reason },
    now,
  });
}

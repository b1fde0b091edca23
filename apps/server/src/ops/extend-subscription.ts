import { listUsersOfServer } from '@vpn-api/db';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { compensationTerms, hasLifetime, subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { lockChain } from './grant-subscription.ts';
import { grantPeriod } from './subscription-chain.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

export interface ExtendSubscription {
  readonly userId?: number | undefined;
  readonly serverId?: number | undefined;
  readonly days: number;
  readonly reason: string;
  readonly source: AuditSource;
}

/**
 * Compensates one user, or everybody with a device on a server, with further days on the terms they have. Answers how
 * many users got them; by server, users without a running subscription or with a lifetime are passed over.
 * @throws DomainError `user_not_found`, `nothing_to_extend`, `already_lifetime`, `validation_failed`
 */
export async function extendSubscription(deps: Deps, input: ExtendSubscription): Promise<number> {
  if ((input.userId === undefined) === (input.serverId === undefined)) {
    throw invalidField('user_id', 'send either user_id or server_id');
  }
  const now = deps.clock.now();
  if (input.userId !== undefined) {
    await extendOne(deps, input, input.userId, now);
    return 1;
  }
  return extendServer(deps, input, now);
}

async function extendServer(deps: Deps, input: ExtendSubscription, now: Instant): Promise<number> {
  let extended = 0;
  for (const userId of await listUsersOfServer(deps.store, input.serverId ?? 0)) {
    // A transaction each: one user's lock is never held while another's is waited for.
    extended += await extendOne(deps, input, userId, now).then(() => 1, passOver);
  }
  return extended;
}

function passOver(error: unknown): 0 {
  const passed = ['nothing_to_extend', 'already_lifetime', 'user_not_found'];
  if (error instanceof DomainError && passed.includes(error.code)) return 0;
  throw error;
}

async function extendOne({ store, clock, reconciler }: Deps, input: ExtendSubscription, userId: number, now: Instant) {
  await store.transaction(async (tx) => {
    const chain = await lockChain(tx, userId);
    const last = chain.at(-1);
    const { status } = subscriptionAt(chain, now);
    if (last === undefined || (status !== 'active' && status !== 'grace')) throw new DomainError('nothing_to_extend');
    if (hasLifetime(chain)) throw new DomainError('already_lifetime');
    const period = await grantPeriod(tx, chain, {
      userId,
      terms: compensationTerms(last, input.days),
      origin: { source: 'admin', payment_id: null, price_minor: 0, currency: last.currency, reason: input.reason },
      now: clock.now(),
    });
    const details = { days: input.days, reason: input.reason, period_id: period.id };
    await audit(tx, { ...input.source, at: now, action: 'subscription.extend', target: `user:${userId}`, details });
    tx.onCommit(() => reconciler.wake());
  });
}

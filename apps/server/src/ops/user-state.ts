import { findLatestPayment, findUserById, listPeersForUser, type PaymentRow, type UserRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { type SubscriptionView, subscriptionAt, subscriptionView } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { type JudgedPeer, judgePeers } from './peer-access.ts';
import { loadChain } from './subscription-chain.ts';

/** Everything about one user that a bot shows. */
export interface UserState {
  readonly user: UserRow;
  readonly subscription: SubscriptionView | null;
  /** Devices the current period allows; 0 when nothing is active or in grace. */
  readonly deviceLimit: number;
  readonly peers: readonly JudgedPeer[];
  readonly openPayment: PaymentRow | undefined;
  readonly lastPayment: PaymentRow | undefined;
}

/** @throws DomainError `user_not_found` */
export async function loadUserState(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  userId: number,
): Promise<UserState> {
  const user = await findUserById(store, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  const now = clock.now();
  const chain = await loadChain(store, userId);
  const subscription = subscriptionView(chain, now);
  const current = subscription === null ? undefined : subscriptionAt(chain, now).current;
  return {
    user,
    subscription,
    deviceLimit: current?.device_limit ?? 0,
    peers: await judgePeers(store, await listPeersForUser(store, userId), now),
    openPayment: await findLatestPayment(store, userId, 'pending'),
    lastPayment: await findLatestPayment(store, userId),
  };
}

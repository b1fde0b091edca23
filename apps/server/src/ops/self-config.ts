import { listPeersForUser } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { peerConfigText } from './peer-config.ts';
import { loadChain } from './subscription-chain.ts';

/**
 * The config of a user's newest device that is switched on.
 * @throws DomainError `no_active_subscription`, `config_not_found`, `private_key_not_stored`
 */
export async function selfConfigText(
  deps: Pick<Services, 'store' | 'clock' | 'secretBox'>,
  userId: number,
  options: { readonly template: boolean },
): Promise<string> {
  const { status } = subscriptionAt(await loadChain(deps.store, userId), deps.clock.now());
  if (status !== 'active' && status !== 'grace') throw new DomainError('no_active_subscription');
  const peers = await listPeersForUser(deps.store, userId);
  const newest = peers.findLast((peer) => peer.deactivated_at === null);
  if (newest === undefined) throw new DomainError('config_not_found');
  return peerConfigText(deps, newest, options);
}

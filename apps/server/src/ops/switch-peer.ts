import { changePeer, listPeersForUser, type PeerRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { deviceRanks } from '../domain/peer.ts';
import { subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';
import { type JudgedPeer, judgePeer } from './peer-access.ts';
import { loadChain } from './subscription-chain.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

/**
 * Switches a device off. It keeps its keys, its address and its place among the devices.
 * @throws DomainError `peer_not_found`
 */
export async function deactivatePeer(deps: Deps, request: PeerRequest): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changeOwnedPeer(deps, request, {
    action: 'peer.deactivate',
    apply: async (tx, peer) => {
      if (peer.deactivated_at !== null) return judgePeer(tx, peer, now);
      return judgePeer(tx, await changePeer(tx, peer.id, { deactivated_at: now, at: now }), now);
    },
  });
}

/** @throws DomainError `peer_not_found`, `device_limit_reached` when the tariff allows fewer devices by now */
export async function activatePeer(deps: Deps, request: PeerRequest): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changeOwnedPeer(deps, request, {
    action: 'peer.activate',
    apply: async (tx, peer) => {
      if (peer.deactivated_at === null) return judgePeer(tx, peer, now);
      await assertWithinLimit(tx, peer, now);
      return judgePeer(tx, await changePeer(tx, peer.id, { deactivated_at: null, at: now }), now);
    },
  });
}

async function assertWithinLimit(tx: Tx, peer: PeerRow, now: Instant): Promise<void> {
  const { current } = subscriptionAt(await loadChain(tx, peer.user_id), now);
  const rank = deviceRanks(await listPeersForUser(tx, peer.user_id)).get(peer.id) ?? 0;
  if (current !== undefined && rank >= current.device_limit) throw new DomainError('device_limit_reached');
}

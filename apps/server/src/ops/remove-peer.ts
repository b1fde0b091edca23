import { changePeer, retireHostPeers } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';

/**
 * Takes a device away. Its key leaves a tombstone until the host confirms, and its address rests after that.
 * @throws DomainError `peer_not_found`
 */
export async function removePeer(
  deps: Pick<Services, 'store' | 'clock' | 'reconciler'>,
  request: PeerRequest,
): Promise<void> {
  const now = deps.clock.now();
  await changeOwnedPeer(deps, request, {
    action: 'peer.remove',
    apply: async (tx, peer) => {
      await retireHostPeers(tx, peer.id, { at: now });
      await changePeer(tx, peer.id, { removed_at: now, at: now });
    },
  });
}

import { changePeer, findPeer, lockPeer, lockServer, lockUser, type PeerRow } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { addressColumns } from './peer-rows.ts';
import { choosesAddresses, freeIndex } from './place-peer.ts';
import { tellNewConfig } from './tell-peers.ts';

/**
 * Gives a live peer another address, if it still has the one named. Its config rises by a version, and the owner is told: the
 * client must fetch it again. Answers false when there is nothing to do, or no free address.
 */
export async function readdressPeer(
  deps: Pick<Services, 'store' | 'clock' | 'log' | 'outbox'>,
  { peerId, address }: { readonly peerId: number; readonly address: string },
): Promise<boolean> {
  const { store, clock, log } = deps;
  return store.transaction(async (tx) => {
    const now = clock.now();
    const unlocked = await findPeer(tx, peerId);
    if (unlocked === undefined) return false;
    await lockUser(tx, unlocked.user_id);
    const peer = await lockPeer(tx, peerId);
    if (peer === undefined || peer.removed_at !== null || !hasAddress(peer, address)) return false;
    const server = await lockServer(tx, peer.server_id);
    const index = server === undefined || choosesAddresses(server) ? undefined : await freeIndex(tx, server, now);
    if (server === undefined || index === undefined) return false;
    const config_version = peer.config_version + 1;
    const moved = await changePeer(tx, peerId, { ...addressColumns(server, index), config_version, at: now });
    await tellNewConfig(deps, tx, moved);
    tx.onCommit(() =>
      log.warn({ peer: peerId, server: server.name }, 'a peer got a new address: its old one is foreign'),
    );
    return true;
  });
}

function hasAddress(peer: PeerRow, address: string): boolean {
  return peer.wg_ip === address || peer.wg_ip6 === address;
}

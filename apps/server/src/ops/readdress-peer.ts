import { changePeer, findPeer, lockPeer, lockServer, lockUser, type PeerRow } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { addressColumns } from './peer-rows.ts';
import { choosesAddresses, freeIndex } from './place-peer.ts';

/**
 * Gives a live peer another address, if it still has the one named. Its config rises by a version: the client must fetch
 * it again. Answers false when there is nothing to do, or no free address.
 */
export async function readdressPeer(
  { store, clock, log }: Pick<Services, 'store' | 'clock' | 'log'>,
  { peerId, address }: { readonly peerId: number; readonly address: string },
): Promise<boolean> {
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
    await changePeer(tx, peerId, { ...addressColumns(server, index), config_version, at: now });
    tx.onCommit(() =>
      log.warn({ peer: peerId, server: server.name }, 'a peer got a new address: its old one is foreign'),
    );
    return true;
  });
}

function hasAddress(peer: PeerRow, address: string): boolean {
  return peer.wg_ip === address || peer.wg_ip6 === address;
}

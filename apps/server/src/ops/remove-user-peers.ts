import { removePeersOfUser, retireHostPeersOfUser, type Tx } from '@vpn-api/db';

/**
 * Marks all of a user's peers as removed and leaves a tombstone for every key that a host may still hold. Keys and
 * addresses stay taken until the hosts confirm. The caller holds the user's lock and wakes the reconciler.
 * Answers how many peers were live.
 */
export async function removeUserPeers(tx: Tx, userId: number, at: string): Promise<number> {
  const removed = await removePeersOfUser(tx, userId, at);
  await retireHostPeersOfUser(tx, userId, at);
  return removed.length;
}

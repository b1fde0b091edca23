import type { PeerChange } from '@vpn-api/wg';
import type { PeerWish } from '../domain/peer.ts';
import type { ServerPlan } from './plan-server.ts';

/**
 * Changes, by kind, that make good what was right before and that somebody or something changed on the host since. A peer
 * that merely follows its payments is none of them.
 */
export function countDrift(
  { wishes: { desired, snapshot } }: ServerPlan,
  changes: Iterable<PeerChange>,
): Record<string, number> {
  const peers = new Map(snapshot.peers.map((peer) => [peer.id, peer]));
  const gone = new Set(snapshot.hostPeers.filter((row) => row.gone_at !== null).map((row) => row.public_key));
  const wishes = new Map<string, PeerWish>();
  for (const wish of desired.wishes) wishes.set(wish.publicKey ?? wish.tag, wish);
  const wasRight = ({ publicKey, tag }: PeerChange): boolean => {
    const wish = wishes.get(publicKey ?? tag ?? '');
    if (wish === undefined || wish.state === 'absent') return publicKey !== null && gone.has(publicKey);
    const peer = peers.get(wish.peerId);
    return peer?.applied_version === peer?.wanted_version && peer?.applied_state === wish.state;
  };
  const counts: Record<string, number> = {};
  for (const change of changes) {
    if (wasRight(change)) counts[change.type] = (counts[change.type] ?? 0) + 1;
  }
  return counts;
}

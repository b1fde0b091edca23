import { findPeer, type PeerRow, type Store } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { addSeconds } from '../domain/instant.ts';
import type { Clock, Services } from '../services.ts';
import type { CreatedPeer } from './create-peer.ts';
import { judgePeer } from './peer-access.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'secretBox'>;

/** A wg-easy takes a second or two; whoever waits longer is better off asking again. */
const PATIENCE_SECONDS = 10;
const LOOK_AGAIN_SECONDS = 0.1;
const RETRY_SECONDS = 2;

/**
 * Waits, outside any transaction, until the host has made the keys of a peer, and answers the peer with them. Other
 * processes may be the ones that record them, so the row is looked at again and again.
 * @throws DomainError `peer_pending`, `peer_not_found`
 */
export async function awaitKeys(deps: Deps, peerId: number): Promise<CreatedPeer> {
  const until = addSeconds(deps.clock.now(), PATIENCE_SECONDS);
  for (;;) {
    const peer = await readLive(deps.store, peerId);
    if (peer.public_key !== null) return withPrivateKey(deps, peer);
    if (deps.clock.now() >= until) throw new DomainError('peer_pending', { retryAfterSeconds: RETRY_SECONDS });
    await pause(deps.clock, LOOK_AGAIN_SECONDS);
  }
}

async function readLive(store: Store, peerId: number): Promise<PeerRow> {
  const peer = await findPeer(store, peerId);
  if (peer === undefined || peer.removed_at !== null) throw new DomainError('peer_not_found');
  return peer;
}

async function withPrivateKey({ store, clock, secretBox }: Deps, peer: PeerRow): Promise<CreatedPeer> {
  const sealed = peer.private_key_sealed;
  const column = 'peers.private_key';
  const privateKey = sealed === null ? null : secretBox.open({ column, rowId: peer.id }, sealed);
  return { ...(await judgePeer(store, peer, clock.now())), privateKey };
}

function pause(clock: Clock, seconds: number): Promise<void> {
  return new Promise((resolve) => {
    clock.at(addSeconds(clock.now(), seconds), resolve);
  });
}

import { changePeer, type PeerRow, retireHostPeers, type Tx } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';
import type { CreatedPeer } from './create-peer.ts';
import { judgePeer } from './peer-access.ts';
import { chooseKeys, type PeerKeys } from './peer-keys.ts';
import { asKeyConflict, assertKeyFree, storeKeys } from './peer-rows.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'secretBox' | 'config'>;

interface RotatePeer {
  readonly publicKey: string | null | undefined;
  readonly beforeCommit: (tx: Tx, rotated: CreatedPeer) => Promise<void>;
}

/**
 * New keys on the same address. The old key leaves a tombstone, and is off the host once the reconciler has been there.
 * The key that the peer has already, sent again, changes nothing.
 * @throws DomainError `peer_not_found`, `key_conflict`, `client_key_required`
 */
export async function rotatePeer(deps: Deps, request: PeerRequest, rotate: RotatePeer): Promise<CreatedPeer> {
  const keys = chooseKeys(deps.config, rotate.publicKey);
  try {
    return await changeOwnedPeer(deps, request, {
      action: 'peer.rotate',
      apply: async (tx, peer) => {
        const stored = peer.public_key === keys.publicKey ? peer : await replaceKeys(deps, tx, peer, keys);
        const rotated = { ...(await judgePeer(tx, stored, deps.clock.now())), privateKey: keys.privateKey };
        await rotate.beforeCommit(tx, rotated);
        return rotated;
      },
    });
  } catch (error) {
    throw asKeyConflict(error);
  }
}

async function replaceKeys(deps: Deps, tx: Tx, peer: PeerRow, keys: PeerKeys): Promise<PeerRow> {
  const now = deps.clock.now();
  await assertKeyFree(tx, keys.publicKey);
  await retireHostPeers(tx, peer.id, { at: now });
  const wanted = await changePeer(tx, peer.id, { config_version: peer.config_version + 1, at: now });
  return storeKeys(deps, tx, { peer: wanted, keys });
}

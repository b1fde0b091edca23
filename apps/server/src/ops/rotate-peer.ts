import { retireHostPeers, type Tx } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { changePeer, type PeerRequest, wantOnHost } from './change-peer.ts';
import type { CreatedPeer } from './create-peer.ts';
import { judgePeer } from './peer-access.ts';
import { chooseKeys } from './peer-keys.ts';
import { asKeyConflict, assertKeyFree, storeKeys } from './peer-rows.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'secretBox' | 'config'>;

interface RotatePeer {
  readonly publicKey: string | null | undefined;
  readonly beforeCommit: (tx: Tx, rotated: CreatedPeer) => Promise<void>;
}

/**
 * New keys on the same address. The old key leaves a tombstone, and is off the host once the reconciler has been there.
 * @throws DomainError `peer_not_found`, `key_conflict`, `client_key_required`
 */
export async function rotatePeer(deps: Deps, request: PeerRequest, rotate: RotatePeer): Promise<CreatedPeer> {
  const now = deps.clock.now();
  const keys = chooseKeys(deps.config, rotate.publicKey);
  try {
    return await changePeer(deps, request, {
      action: 'peer.rotate',
      apply: async (tx, peer) => {
        await assertKeyFree(tx, keys.publicKey);
        await retireHostPeers(tx, peer.id, { at: now });
        const wanted = await wantOnHost(tx, peer, { config_version: peer.config_version + 1 }, now);
        const stored = await storeKeys(deps, tx, { peer: wanted, keys, now });
        const rotated = { ...(await judgePeer(tx, stored, now)), privateKey: keys.privateKey };
        await rotate.beforeCommit(tx, rotated);
        return rotated;
      },
    });
  } catch (error) {
    throw asKeyConflict(error);
  }
}

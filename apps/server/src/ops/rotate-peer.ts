import { changePeer, findServer, type PeerRow, retireHostPeers, type Tx } from '@vpn-api/db';
import type { PublicKey } from '@vpn-api/wg';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';
import type { CreatedPeer } from './create-peer.ts';
import { judgePeer } from './peer-access.ts';
import { chooseKeys, readSubmittedKey } from './peer-keys.ts';
import { addressColumns, asKeyConflict, assertKeyFree, storeKeys } from './peer-rows.ts';
import { choosesAddresses } from './place-peer.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'secretBox' | 'config'>;

interface RotatePeer {
  readonly publicKey: string | null | undefined;
  readonly beforeCommit: (tx: Tx, rotated: CreatedPeer) => Promise<void>;
}

/**
 * New keys on the same address. The old key leaves a tombstone, and is off the host once the reconciler has been there.
 * The key that the peer has already, sent again, changes nothing. On a host that makes the keys the peer has none until
 * the host told them: see `awaitKeys`.
 * @throws DomainError `peer_not_found`, `key_conflict`, `client_key_required`, `client_keys_not_supported`
 */
export async function rotatePeer(deps: Deps, request: PeerRequest, rotate: RotatePeer): Promise<CreatedPeer> {
  const submitted = readSubmittedKey(rotate.publicKey);
  try {
    return await changeOwnedPeer(deps, request, {
      action: 'peer.rotate',
      apply: async (tx, peer) => {
        const isSame = submitted !== null && peer.public_key === submitted && !deps.config.wireguard.ignoreClientKeys;
        const replaced = isSame ? { peer, privateKey: null } : await replaceKeys(deps, tx, peer, submitted);
        const { privateKey } = replaced;
        const rotated = { ...(await judgePeer(tx, replaced.peer, deps.clock.now())), privateKey };
        await rotate.beforeCommit(tx, rotated);
        return rotated;
      },
    });
  } catch (error) {
    throw asKeyConflict(error);
  }
}

async function replaceKeys(deps: Deps, tx: Tx, peer: PeerRow, submitted: PublicKey | null) {
  const now = deps.clock.now();
  const server = await findServer(tx, peer.server_id);
  if (server === undefined) throw new DomainError('server_not_found');
  const keys = chooseKeys(deps.config, server, submitted);
  if (keys.publicKey !== null) await assertKeyFree(tx, keys.publicKey);
  await retireHostPeers(tx, peer.id, { at: now });
  // A host that chooses the addresses makes a new peer, in another place.
  const place = choosesAddresses(server) ? addressColumns(server, null) : {};
  const wanted = await changePeer(tx, peer.id, { ...place, config_version: peer.config_version + 1, at: now });
  return { peer: await storeKeys(deps, tx, { peer: wanted, keys }), privateKey: keys.privateKey };
}

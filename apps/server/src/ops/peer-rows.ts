import { isPublicKeyTaken, isUniqueViolation, type PeerRow, type ServerRow, type Tx, updatePeer } from '@vpn-api/db';
import { peerAddresses } from '@vpn-api/wg/address';
import type { SealContext } from '../crypto/secret-box.ts';
import { addressPools } from '../domain/address.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import type { PeerKeys } from './peer-keys.ts';

/** Columns of a peer that follow from its place in the server's pools; null where the host chooses the address. */
export function addressColumns(server: ServerRow, index: number | null) {
  if (index === null) return { address_index: null, wg_ip: null, wg_ip6: null };
  const pools = addressPools(server);
  const { v4, v6 } = peerAddresses(pools.v4, pools.v6, index);
  return { address_index: index, wg_ip: v4, wg_ip6: v6 };
}

/**
 * Refuses a key of a live peer, one that a host may still hold, a foreign one and a server's own.
 * @throws DomainError `key_conflict`
 */
export async function assertKeyFree(tx: Tx, publicKey: string): Promise<void> {
  if (await isPublicKeyTaken(tx, publicKey)) throw new DomainError('key_conflict');
}

/** Writes a peer's keys, the secret ones sealed. */
export function storeKeys(
  { secretBox }: Pick<Services, 'secretBox'>,
  tx: Tx,
  { peer, keys }: { readonly peer: PeerRow; readonly keys: PeerKeys },
): Promise<PeerRow> {
  const columns = { public_key: keys.publicKey, key_origin: keys.origin, submitted_key: keys.submitted };
  return updatePeer(tx, peer.id, { ...columns, ...sealKeys({ secretBox }, peer.id, keys) });
}

/** Seals the secret halves for the row they belong to; its id is part of what is authenticated. */
export function sealKeys(
  { secretBox }: Pick<Services, 'secretBox'>,
  rowId: number,
  { privateKey, presharedKey }: Pick<PeerKeys, 'privateKey' | 'presharedKey'>,
) {
  const seal = (column: SealContext['column'], text: string | null) =>
    text === null ? null : secretBox.seal({ column, rowId }, text);
  return {
    private_key_sealed: seal('peers.private_key', privateKey),
    preshared_key_sealed: seal('peers.preshared_key', presharedKey),
  };
}

/** Names the refusal behind a clash that two callers at once can still run into. */
export function asKeyConflict(error: unknown): unknown {
  const isClash = isUniqueViolation(error) === 'peers(public_key)';
  return isClash ? new DomainError('key_conflict', { cause: error }) : error;
}

import { parseSingleHost, printCidr } from '../address.ts';
import type { PeerChange, SetPeer } from '../driver.ts';
import { parsePublicKey } from '../keys.ts';

/** v14 writes names into its WireGuard config: whatever else may stand in one is never sent. */
const TAG = /^[A-Za-z0-9_.-]{1,32}$/;

/**
 * Reads every value of a change again, as if it came from a stranger.
 * @throws KeyError, AddressError or TypeError, without the value
 */
export function checkReportedChange(change: PeerChange): PeerChange {
  if (change.type !== 'set') return { ...change, publicKey: parsePublicKey(change.publicKey) };
  return checkSet(change);
}

function checkSet(change: SetPeer): SetPeer {
  if (typeof change.tag !== 'string' || !TAG.test(change.tag)) {
    throw new TypeError('the tag must be 1 to 32 letters, digits, "_", "." or "-"');
  }
  return {
    type: 'set',
    publicKey: change.publicKey === null ? null : parsePublicKey(change.publicKey),
    // wg-easy chooses it.
    presharedKey: null,
    addresses: change.addresses.map((address) => printCidr(parseSingleHost(address))),
    tag: change.tag,
  };
}

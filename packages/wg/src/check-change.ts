import { parseSingleHost, printCidr } from './address.ts';
import type { ObservedPeer, PeerChange, SetPeer } from './driver.ts';
import { parsePresharedKey, parsePublicKey } from './keys.ts';

/** A `set` for a host whose keys are given: everything read again, so that only canonical text reaches the host. */
export interface CheckedSet extends SetPeer {
  readonly publicKey: NonNullable<SetPeer['publicKey']>;
}

/** A `set` that waits for the key that the host makes. */
export interface KeylessSet extends SetPeer {
  readonly publicKey: null;
}

/**
 * Reads every value of a `set` again, as if it came from a stranger.
 * @throws KeyError, AddressError or TypeError, without the value
 */
export function checkGivenSet(change: SetPeer): CheckedSet {
  if (change.publicKey === null) throw new TypeError('this host does not make keys: a public key is needed');
  return { ...checkKeylessSet(change), publicKey: parsePublicKey(change.publicKey) };
}

/** The same for a host that makes keys, but no addresses. @throws KeyError, AddressError or TypeError, without the value */
export function checkKeylessSet(change: SetPeer): KeylessSet {
  if (change.addresses.length === 0) throw new TypeError('this host does not choose addresses: one is needed');
  return {
    type: 'set',
    publicKey: null,
    presharedKey: change.presharedKey === null ? null : parsePresharedKey(change.presharedKey),
    addresses: change.addresses.map((address) => printCidr(parseSingleHost(address))),
    tag: change.tag,
  };
}

/** Whether the host shows what the change wanted, for hosts that suspend by removing. */
export function isVisible(change: PeerChange, observed: ObservedPeer | undefined): boolean {
  if (change.type !== 'set') return observed === undefined;
  if (observed === undefined || observed.presharedKey !== change.presharedKey) return false;
  const held = new Set(observed.allowedIps);
  return held.size === change.addresses.length && change.addresses.every((address) => held.has(address));
}

import { isSingleHost, parseHostCidr, peerAddresses, printCidr } from '@vpn-api/wg/address';
import { type AddressPools, requestedAddressIndex } from './address.ts';

/** A peer as its host lists it, as far as addresses go. */
export interface SeenPeer {
  readonly publicKey: string;
  /** CIDR text. */
  readonly allowedIps: readonly string[];
}

/** Columns of a peer that says where it is already. */
export interface Place {
  readonly address_index: number | null;
  readonly wg_ip: string;
  readonly wg_ip6: string | null;
}

/**
 * The places that the peers of a host have, by key. Left out is who has no IPv4 address of his own, who shares it or
 * lies in a range of somebody else, who has more than one of a family or a whole range, and who stands outside the pools
 * or not at the same place in both.
 *
 * @param pools null where the host chooses the addresses: any will do
 */
export function placesOnHost(peers: readonly SeenPeer[], pools: AddressPools | null): ReadonlyMap<string, Place> {
  const held = peers.flatMap(({ allowedIps }) => allowedIps);
  const holders = Map.groupBy(held, (address) => address);
  const ranges = [...holders.keys()].filter((address) => !isHost(address));
  const places = new Map<string, Place>();
  for (const { publicKey, allowedIps } of peers) {
    const isShared = allowedIps.some((address) => (holders.get(address)?.length ?? 0) > 1);
    const place = isShared ? undefined : placeOf(allowedIps, pools, ranges);
    if (place !== undefined) places.set(publicKey, place);
  }
  return places;
}

function placeOf(
  allowedIps: readonly string[],
  pools: AddressPools | null,
  ranges: readonly string[],
): Place | undefined {
  if (!allowedIps.every(isHost)) return undefined;
  const [wg_ip, ...more4] = allowedIps.filter((address) => !address.includes(':'));
  const [wg_ip6 = null, ...more6] = allowedIps.filter((address) => address.includes(':'));
  if (wg_ip === undefined || more4.length > 0 || more6.length > 0) return undefined;
  if (pools === null) return { address_index: null, wg_ip, wg_ip6 };
  const address_index = requestedAddressIndex(wg_ip, pools, ranges);
  if (address_index === undefined) return undefined;
  // Anywhere else in the IPv6 pool it would have an address that another peer is going to be given.
  const twin = peerAddresses(pools.v4, pools.v6, address_index).v6;
  return wg_ip6 === null || wg_ip6 === twin ? { address_index, wg_ip, wg_ip6 } : undefined;
}

/** In the very text in which addresses are compared. */
function isHost(text: string): boolean {
  try {
    const cidr = parseHostCidr(text);
    return isSingleHost(cidr) && printCidr(cidr) === text;
  } catch {
    return false;
  }
}

import {
  addressAt,
  cidrContains,
  FIRST_PEER_INDEX,
  indexOf,
  isSingleHost,
  type Pool,
  parseHostCidr,
  poolCapacity,
  printCidr,
} from '../address.ts';
import type { ObservedPeer } from '../driver.ts';
import { UsageError } from './usage-error.ts';

/**
 * The lowest address of the pool that no peer holds, as a single host: `10.8.0.2/32`.
 * @throws UsageError when the pool is full
 */
export function freeAddress(pool: Pool, peers: readonly ObservedPeer[]): string {
  const held = peers.flatMap((peer) => peer.allowedIps).flatMap(readCidr);
  const taken = new Set(held.filter(isSingleHost).map((cidr) => indexOf(pool, cidr)));
  // A default route is no claim on any one address.
  const ranges = held.filter((cidr) => !isSingleHost(cidr) && cidr.prefix > 0);
  for (let index = FIRST_PEER_INDEX; index < FIRST_PEER_INDEX + poolCapacity(pool); index += 1) {
    const [cidr] = readCidr(addressAt(pool, index));
    if (cidr === undefined || taken.has(index) || ranges.some((range) => cidrContains(range, cidr))) continue;
    return printCidr(cidr);
  }
  throw new UsageError('the pool has no free address');
}

/** What cannot be read as a range holds no address that could be given out. */
function readCidr(text: string) {
  try {
    return [parseHostCidr(text)];
  } catch {
    return [];
  }
}

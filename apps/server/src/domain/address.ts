import { type Cidr, FIRST_PEER_INDEX, indexOf, type Pool, parseHostCidr, parsePool } from '@vpn-api/wg/address';

/** How long an address rests after the host confirmed that its peer is gone, so that late packets find nobody. */
export const ADDRESS_REST_SECONDS = 600;

/** The ranges that number the peers of a server. A peer has the same index in both. */
export interface AddressPools {
  readonly v4: Pool;
  readonly v6: Pool | null;
}

/** Reads the pool columns of a server. Throws the AddressError of `@vpn-api/wg/address` for text that is no pool. */
export function addressPools(server: { readonly pool_v4: string; readonly pool_v6: string | null }): AddressPools {
  return { v4: parsePool(server.pool_v4), v6: server.pool_v6 === null ? null : parsePool(server.pool_v6) };
}

/** The last index that has an address in every pool. */
export function lastPeerIndex(pools: AddressPools): number {
  return Math.min(pools.v4.lastIndex, pools.v6?.lastIndex ?? Number.POSITIVE_INFINITY);
}

/**
 * The first index above the highest one taken; undefined when the top is reached. Tried before the gaps: it needs one
 * number instead of all rows, and an address that was given back stays unused for as long as the pool allows.
 *
 * @param foreign `allowed_ips` of the foreign peers on the host, one CIDR each; unreadable text is passed over
 */
export function chooseIndexAbove(
  pools: AddressPools,
  highest: number | null,
  foreign: readonly string[],
): number | undefined {
  const from = Math.max(FIRST_PEER_INDEX, (highest ?? 0) + 1);
  return firstFree(from, pools, blockedSpans(pools, foreign));
}

/** Indexes that nobody has, both ends included; `to` is null behind the highest one taken. */
export interface IndexGap {
  readonly from: number;
  readonly to: number | null;
}

/** The first index in the gaps, for when the top of the pool is reached; undefined when the pool is full. */
export function chooseIndexInGaps(
  pools: AddressPools,
  gaps: readonly IndexGap[],
  foreign: readonly string[],
): number | undefined {
  const blocked = blockedSpans(pools, foreign);
  for (const { from, to } of gaps) {
    const index = firstFree(Math.max(FIRST_PEER_INDEX, from), pools, blocked);
    if (index !== undefined && (to === null || index <= to)) return index;
  }
  return undefined;
}

/**
 * The index of an address that somebody asked for (`10.8.0.14` or `10.8.0.14/32`). undefined when it is not a peer's
 * address in the IPv4 pool, or it or its IPv6 twin lies in a foreign range. Whether a peer has it is not asked here.
 */
export function requestedAddressIndex(
  address: string,
  pools: AddressPools,
  foreign: readonly string[],
): number | undefined {
  const cidr = readCidr(address);
  if (cidr === undefined || cidr.family !== 4 || cidr.prefix !== 32) return undefined;
  const index = indexOf(pools.v4, cidr);
  if (index === null || index < FIRST_PEER_INDEX || index > lastPeerIndex(pools)) return undefined;
  return blockedSpans(pools, foreign).some((span) => isWithin(index, span)) ? undefined : index;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** Jumps over foreign spans, which can be millions of addresses wide, instead of trying each of their indexes. */
function firstFree(from: number, pools: AddressPools, blocked: readonly Span[]): number | undefined {
  const last = lastPeerIndex(pools);
  let index = from;
  while (index <= last) {
    const span = blocked.find((candidate) => isWithin(index, candidate));
    if (span === undefined) return index;
    index = span.to + 1;
  }
  return undefined;
}

function isWithin(index: number, span: Span): boolean {
  return span.from <= index && index <= span.to;
}

function blockedSpans({ v4, v6 }: AddressPools, foreign: readonly string[]): Span[] {
  return foreign.flatMap((text) => {
    const cidr = readCidr(text);
    // A default route is no claim on any single address; the diff sees it the same way.
    if (cidr === undefined || cidr.prefix === 0) return [];
    const pool = cidr.family === 4 ? v4 : v6;
    const span = pool === null ? undefined : spanIn(pool, cidr);
    return span === undefined ? [] : [span];
  });
}

/** The indexes of a pool that a CIDR covers. */
function spanIn(pool: Pool, cidr: Cidr): Span | undefined {
  const size = 1n << BigInt((cidr.family === 4 ? 32 : 128) - cidr.prefix);
  const start = (BigInt(cidr.value) / size) * size - BigInt(pool.value);
  const end = start + size - 1n;
  const last = BigInt(pool.lastIndex);
  if (end < 0n || start > last) return undefined;
  return { from: Number(start < 0n ? 0n : start), to: Number(end > last ? last : end) };
}

function readCidr(text: string): Cidr | undefined {
  try {
    return parseHostCidr(text);
  } catch {
    return undefined;
  }
}

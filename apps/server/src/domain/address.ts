import { type Cidr, FIRST_PEER_INDEX, indexOf, type Pool, parseHostCidr, parsePool } from '@vpn-api/wg/address';
import { epochMs } from './instant.ts';

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

export interface AddressQuery {
  readonly pools: AddressPools;
  /** Indexes of live peers and of tombstones that still hold or rest theirs. */
  readonly taken: Iterable<number>;
  /** `allowed_ips` of the foreign peers on the host, one CIDR each; unreadable text is passed over. */
  readonly foreign: readonly string[];
}

/**
 * The index for a new peer, or undefined when the pool is full. Goes up before it fills gaps, so an address that was
 * given back stays unused for as long as the pool allows.
 */
export function chooseAddressIndex({ pools, taken, foreign }: AddressQuery): number | undefined {
  const used = new Set(taken);
  let highest = FIRST_PEER_INDEX - 1;
  for (const index of used) highest = Math.max(highest, index);
  const blocked = blockedSpans(pools, foreign);
  return firstFree(highest + 1, { pools, used, blocked }) ?? firstFree(FIRST_PEER_INDEX, { pools, used, blocked });
}

/**
 * The first index above the highest one ever taken, without looking at the others; undefined when the top is reached.
 * The cheap first try of a caller that has one number from an index instead of all rows.
 */
export function chooseIndexAbove(
  pools: AddressPools,
  highest: number | null,
  foreign: readonly string[],
): number | undefined {
  const from = Math.max(FIRST_PEER_INDEX, (highest ?? 0) + 1);
  return firstFree(from, { pools, used: new Set(), blocked: blockedSpans(pools, foreign) });
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
  const search = { pools, used: new Set<number>(), blocked: blockedSpans(pools, foreign) };
  for (const { from, to } of gaps) {
    const index = firstFree(Math.max(FIRST_PEER_INDEX, from), search);
    if (index !== undefined && (to === null || index <= to)) return index;
  }
  return undefined;
}

/**
 * The index of an address that somebody asked for (`10.8.0.14` or `10.8.0.14/32`). undefined when it is not a peer's
 * address in the IPv4 pool, is taken, or lies in a foreign range. Its IPv6 twin must be free too.
 */
export function requestedAddressIndex(address: string, { pools, taken, foreign }: AddressQuery): number | undefined {
  const cidr = readCidr(address);
  if (cidr === undefined || cidr.family !== 4 || cidr.prefix !== 32) return undefined;
  const index = indexOf(pools.v4, cidr);
  if (index === null || index < FIRST_PEER_INDEX || index > lastPeerIndex(pools)) return undefined;
  const used = new Set(taken);
  return isFree(index, used, blockedSpans(pools, foreign)) ? index : undefined;
}

/** True while the address of a key that was once on a host may not be given to another peer. */
export function holdsAddress(
  hostPeer: { readonly retired_at: string | null; readonly gone_at: string | null },
  now: string,
): boolean {
  if (hostPeer.retired_at === null || hostPeer.gone_at === null) return true;
  return epochMs(now) < epochMs(hostPeer.gone_at) + ADDRESS_REST_SECONDS * 1000;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

interface Search {
  readonly pools: AddressPools;
  readonly used: ReadonlySet<number>;
  readonly blocked: readonly Span[];
}

/** Jumps over foreign spans, which can be millions of addresses wide, instead of trying each of their indexes. */
function firstFree(from: number, { pools, used, blocked }: Search): number | undefined {
  const last = lastPeerIndex(pools);
  let index = from;
  while (index <= last) {
    const span = blocked.find((candidate) => isWithin(index, candidate));
    if (span !== undefined) index = span.to + 1;
    else if (used.has(index)) index += 1;
    else return index;
  }
  return undefined;
}

function isFree(index: number, used: ReadonlySet<number>, blocked: readonly Span[]): boolean {
  return !used.has(index) && !blocked.some((span) => isWithin(index, span));
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

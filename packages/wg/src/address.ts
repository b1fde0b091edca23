/**
 * Strict IPv4 and IPv6 text, CIDR relations and the arithmetic of an address pool. Pure: no imports at all.
 *
 * ```ts
 * const pool = parsePool('10.8.0.0/24');
 * poolCapacity(pool);                 // 253 peers
 * peerAddresses(pool, null, 14).v4;   // '10.8.0.14/32'
 * ```
 */

export type AddressErrorCode = 'bad_address' | 'bad_cidr' | 'bad_pool' | 'out_of_pool';

/** Thrown by every parser here. The message never repeats the text that was refused. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
  readonly code: AddressErrorCode;

  constructor(code: AddressErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export interface Ipv4Address {
  readonly family: 4;
  /** 0 … 2^32 − 1 */
  readonly value: number;
}

export interface Ipv6Address {
  readonly family: 6;
  /** 0 … 2^128 − 1 */
  readonly value: bigint;
}

export type Address = Ipv4Address | Ipv6Address;

/** An address with a prefix length. What {@link parseCidr} returns has no bits set behind the prefix. */
export type Cidr = Address & { readonly prefix: number };

/** A range peers are numbered in. Index 1 is the server's own address, peers start at {@link FIRST_PEER_INDEX}. */
export type Pool = Cidr & {
  /** Index of the last usable address. */
  readonly lastIndex: number;
};

export const SERVER_INDEX = 1;
export const FIRST_PEER_INDEX = 2;

/** Indexes are stored in 32-bit integer columns; an IPv6 pool has more addresses than that. */
const MAX_INDEX = 2 ** 31 - 1;

/** Reads one address. Refused: leading zeros, short or hexadecimal IPv4 forms, zone ids, IPv4 inside IPv6. */
export function parseAddress(text: string): Address {
  const address = readAddress(text);
  if (address === null) throw new AddressError('bad_address', 'not an IPv4 or IPv6 address');
  return address;
}

/** Canonical text: dotted decimal, or RFC 5952. */
export function printAddress(address: Address): string {
  return address.family === 4 ? printIpv4(address.value) : printIpv6(address.value);
}

/** Reads a network such as `10.8.0.0/24`. Bits behind the prefix are refused: they are nearly always a mistake. */
export function parseCidr(text: string): Cidr {
  const cidr = readCidr(text);
  if (cidr === null) throw new AddressError('bad_cidr', 'not an address with a prefix length');
  if (networkStart(cidr, cidr.prefix) !== cidr.value) {
    throw new AddressError('bad_cidr', 'the address has bits set behind its prefix');
  }
  return cidr;
}

/** Reads an address on an interface, `10.8.0.14/24`: host bits are allowed, a bare address is a /32 or /128. */
export function parseHostCidr(text: string): Cidr {
  if (!text.includes('/')) {
    const address = parseAddress(text);
    return { ...address, prefix: addressBits(address) };
  }
  const cidr = readCidr(text);
  if (cidr === null) throw new AddressError('bad_cidr', 'not an address with a prefix length');
  return cidr;
}

/** Reads exactly one host, `10.8.0.14/32` or `fd00::e/128`: the only thing a peer may own on a server. */
export function parseSingleHost(text: string): Cidr {
  const cidr = readCidr(text);
  if (cidr === null || !isSingleHost(cidr)) {
    throw new AddressError('bad_cidr', 'not a single host: a /32 or /128 is needed');
  }
  return cidr;
}

export function printCidr(cidr: Cidr): string {
  return `${printAddress(cidr)}/${cidr.prefix}`;
}

export function isSingleHost(cidr: Cidr): boolean {
  return cidr.prefix === addressBits(cidr);
}

export function cidrContains(outer: Cidr, inner: Cidr): boolean {
  if (outer.family !== inner.family || inner.prefix < outer.prefix) return false;
  return networkStart(inner, outer.prefix) === networkStart(outer, outer.prefix);
}

export function cidrOverlaps(a: Cidr, b: Cidr): boolean {
  return cidrContains(a, b) || cidrContains(b, a);
}

/**
 * Reads a pool: IPv4 /8 to /30, IPv6 /48 to /126, and neither loopback, link-local, multicast nor unspecified.
 * @throws AddressError `bad_cidr` or `bad_pool`
 */
export function parsePool(text: string): Pool {
  const cidr = parseCidr(text);
  const [shortest, longest] = cidr.family === 4 ? [8, 30] : [48, 126];
  if (cidr.prefix < shortest || cidr.prefix > longest) {
    throw new AddressError('bad_pool', `an IPv${cidr.family} pool has a prefix of /${shortest} to /${longest}`);
  }
  if (UNUSABLE_RANGES.some((range) => cidrOverlaps(range, cidr))) {
    throw new AddressError('bad_pool', 'the range is reserved and cannot number peers');
  }
  return { ...cidr, lastIndex: lastIndexOf(cidr) };
}

/** How many peers the pool can number. The server's own address is not counted, nor IPv4 network and broadcast. */
export function poolCapacity(pool: Pool): number {
  return pool.lastIndex - SERVER_INDEX;
}

/** The address at an index, without prefix. @throws AddressError `out_of_pool` */
export function addressAt(pool: Pool, index: number): string {
  if (!Number.isInteger(index) || index < SERVER_INDEX || index > pool.lastIndex) {
    throw new AddressError('out_of_pool', `index is not in 1 … ${pool.lastIndex}`);
  }
  return printAddress(
    pool.family === 4 ? { family: 4, value: pool.value + index } : { family: 6, value: pool.value + BigInt(index) },
  );
}

/** The index an address has in the pool, or null when it lies outside, or is the network or broadcast address. */
export function indexOf(pool: Pool, address: string | Address): number | null {
  const found = typeof address === 'string' ? parseHostCidr(address) : address;
  if (found.family !== pool.family) return null;
  const offset = BigInt(found.value) - BigInt(pool.value);
  return offset >= 1n && offset <= BigInt(pool.lastIndex) ? Number(offset) : null;
}

/** The server's own interface address with the pool's prefix: `10.8.0.1/24`. */
export function serverAddress(pool: Pool): string {
  return `${addressAt(pool, SERVER_INDEX)}/${pool.prefix}`;
}

export interface PeerAddresses {
  /** `10.8.0.14/32` */
  readonly v4: string;
  /** `fd00::e/128`, or null without an IPv6 pool */
  readonly v6: string | null;
}

/** What a peer with this index owns on the server. @throws AddressError `out_of_pool`, also for the server's own index */
export function peerAddresses(poolV4: Pool, poolV6: Pool | null, index: number): PeerAddresses {
  if (index < FIRST_PEER_INDEX) throw new AddressError('out_of_pool', 'peer indexes start at 2');
  return {
    v4: `${addressAt(poolV4, index)}/32`,
    v6: poolV6 === null ? null : `${addressAt(poolV6, index)}/128`,
  };
}

function addressBits(address: Address): 32 | 128 {
  return address.family === 4 ? 32 : 128;
}

function networkStart(address: Address, prefix: number): number | bigint {
  if (address.family === 4) return address.value - (address.value % 2 ** (32 - prefix));
  const hostBits = BigInt(128 - prefix);
  return (address.value >> hostBits) << hostBits;
}

function lastIndexOf(cidr: Cidr): number {
  // The last IPv4 address of a range is its broadcast address; IPv6 has none.
  if (cidr.family === 4) return 2 ** (32 - cidr.prefix) - 2;
  return Math.min(2 ** (128 - cidr.prefix) - 1, MAX_INDEX);
}

function readCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const address = readAddress(text.slice(0, slash));
  const prefix = readDecimal(text.slice(slash + 1), 128);
  if (address === null || prefix === null || prefix > addressBits(address)) return null;
  return { ...address, prefix };
}

function readAddress(text: string): Address | null {
  if (text.includes(':')) {
    const value = readIpv6(text);
    return value === null ? null : { family: 6, value };
  }
  const value = readIpv4(text);
  return value === null ? null : { family: 4, value };
}

function readIpv4(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    const octet = readDecimal(part, 255);
    if (octet === null) return null;
    value = value * 256 + octet;
  }
  return value;
}

/** Digits without a leading zero: `010` is 8 to some parsers and 10 to others. */
function readDecimal(text: string, max: number): number | null {
  if (!/^(?:0|[1-9][0-9]{0,2})$/.test(text)) return null;
  const value = Number(text);
  return value <= max ? value : null;
}

function readIpv6(text: string): bigint | null {
  const groups = readIpv6Groups(text);
  if (groups === null) return null;
  const value = groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
  // ::ffff:a.b.c.d is an IPv4 address in disguise; it would slip past comparisons with the real one.
  return value >> 32n === 0xffffn ? null : value;
}

function readIpv6Groups(text: string): number[] | null {
  const halves = text.split('::');
  const head = readHexGroups(halves[0] ?? '');
  if (head === null || halves.length > 2) return null;
  if (halves.length === 1) return head.length === 8 ? head : null;
  const tail = readHexGroups(halves[1] ?? '');
  if (tail === null || head.length + tail.length > 7) return null;
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

function readHexGroups(text: string): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  if (parts.length > 8 || !parts.every((part) => /^[0-9a-fA-F]{1,4}$/.test(part))) return null;
  return parts.map((part) => Number.parseInt(part, 16));
}

function printIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

function printIpv6(value: bigint): string {
  const groups = [7n, 6n, 5n, 4n, 3n, 2n, 1n, 0n].map((n) => Number((value >> (n * 16n)) & 0xffffn));
  const zeros = longestZeroRun(groups);
  const print = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':');
  // RFC 5952: a single zero group is written out.
  if (zeros.length < 2) return print(groups);
  return `${print(groups.slice(0, zeros.start))}::${print(groups.slice(zeros.start + zeros.length))}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, at) => {
    if (group !== 0) start = at + 1;
    else if (at + 1 - start > best.length) best = { start, length: at + 1 - start };
  });
  return best;
}

const UNUSABLE_RANGES: readonly Cidr[] = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/16',
  'fe80::/10',
  'ff00::/8',
].map(parseCidr);

import { type LookupOptions, lookup as resolveName } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { type Address, type Cidr, cidrContains, parseAddress, parseCidr } from './address.ts';

export type OutboundErrorCode = 'bad_url' | 'forbidden_address';

/** A URL or an address that this process must not call. The message never repeats it. */
export class OutboundError extends Error {
  override readonly name = 'OutboundError';
  readonly code: OutboundErrorCode;

  constructor(code: OutboundErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Decides which addresses may be called when somebody else chose the URL. Public addresses may. Private ones and loopback
 * may when they are in the list given. Link-local ones and those where clouds keep their credentials never may.
 *
 * Names are checked by what they resolve to, at the moment of connecting and for the very address that is connected to,
 * so a name that changes its mind gains nothing:
 *
 * ```ts
 * const guard = new OutboundGuard(['192.168.1.0/24']);
 * guard.check('https://hooks.example.com/vpn');                      // throws OutboundError
 * const agent = new Agent({ connect: guard.connector() });           // undici; redirects are connected through it too
 * http.get(url, { lookup: guard.lookup });                           // node:http, for URLs that passed check()
 * ```
 */
export class OutboundGuard {
  readonly #allowed: readonly Cidr[];

  /** `allowed`: private ranges that may be called, `10.0.0.0/8`. @throws AddressError */
  constructor(allowed: readonly (string | Cidr)[] = []) {
    this.#allowed = allowed.map((range) => (typeof range === 'string' ? parseCidr(range) : range));
  }

  /**
   * Reads a URL: http or https, no user name or password in it, and no forbidden address for a host. A host name passes;
   * what it resolves to is checked by {@link lookup}.
   * @throws OutboundError
   */
  check(text: string): URL {
    // The parser drops tabs and line ends and trims blanks: what was shown to a person is not what would be called.
    const url = /^[\x21-\x7e]+$/.test(text) ? URL.parse(text) : null;
    if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
      throw new OutboundError('bad_url', 'not an http or https URL');
    }
    if (url.username !== '' || url.password !== '') {
      throw new OutboundError('bad_url', 'the URL holds a user name or a password');
    }
    const host = url.hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0 && !this.isAllowed(host)) throw forbidden();
    return url;
  }

  /** Whether this IP address, in any spelling that sockets take, may be connected to. */
  isAllowed(address: string): boolean {
    const read = readIp(address);
    if (read === null) return false;
    const inner = read.family === 6 ? embeddedIpv4(read.value) : null;
    return this.#isAllowed(inner ?? read);
  }

  /** Resolves a name as `dns.lookup` does and leaves out what is forbidden. For the `lookup` option of sockets. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolveName(hostname, { ...options, all: true } as LookupOptions & { all: true }, (error, found) => {
      if (error !== null) return callback(error, '', 0);
      const allowed = found.filter(({ address }) => this.isAllowed(address));
      const [first] = allowed;
      if (first === undefined) return callback(forbidden(), '', 0);
      return options.all === true ? callback(null, allowed) : callback(null, first.address, first.family);
    });
  };

  /** A connector for undici's dispatchers that also checks hosts which are addresses already: nobody looks those up. */
  connector(options: buildConnector.BuildOptions = {}): buildConnector.connector {
    const connect = buildConnector({ ...options, lookup: this.lookup } as buildConnector.BuildOptions);
    return (target, callback) => {
      if (isIP(target.hostname) !== 0 && !this.isAllowed(target.hostname)) callback(forbidden(), null);
      else connect(target, callback);
    };
  }

  #isAllowed(address: Address): boolean {
    const host: Cidr = { ...address, prefix: address.family === 4 ? 32 : 128 };
    const isIn = (range: Cidr) => cidrContains(range, host);
    if (NEVER.some(isIn)) return false;
    const isPublic = address.family === 6 ? PUBLIC_V6.some(isIn) && !PRIVATE.some(isIn) : !PRIVATE.some(isIn);
    return isPublic || this.#allowed.some(isIn);
  }
}

function forbidden(): OutboundError {
  return new OutboundError('forbidden_address', 'the address is private, local or reserved, and not on the list');
}

/** Link-local, multicast, "this host", and the metadata services of clouds, which hand out credentials to whoever asks. */
const NEVER: readonly Cidr[] = [
  '0.0.0.0/8',
  '169.254.0.0/16',
  '100.100.100.200/32',
  '168.63.129.16/32',
  '192.0.0.192/32',
  '224.0.0.0/3',
  '::/128',
  'fe80::/10',
  'ff00::/8',
  'fd00:ec2::254/128',
  'fd00:ec2::23/128',
  'fd20:ce::254/128',
].map(parseCidr);

const PRIVATE: readonly Cidr[] = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '2001::/23',
  '2001:db8::/32',
  '3fff::/20',
].map(parseCidr);

/** All that is routed on the internet. Unique local, site-local, loopback, discard and the rest lie outside. */
const PUBLIC_V6: readonly Cidr[] = [parseCidr('2000::/3')];

/** Unlike `parseAddress` it reads IPv4 inside IPv6: resolvers answer it, and sockets take it. */
function readIp(text: string): Address | null {
  const family = text.includes('%') ? 0 : isIP(text);
  if (family === 4) return parseAddress(text);
  return family === 6 ? { family: 6, value: readIpv6(text) } : null;
}

function readIpv6(text: string): bigint {
  const groups = text.replace(/\d+\.\d+\.\d+\.\d+$/, hexGroups).split('::');
  const [head = [], tail = []] = groups.map((half) => half.split(':').filter((group) => group !== ''));
  const zeros = new Array<string>(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...tail].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function hexGroups(dotted: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** Prefixes, as the upper 96 bits, whose last 32 bits are an IPv4 address that the packet really goes to. */
const CARRIERS: ReadonlySet<bigint> = new Set([
  0x0n, // ::a.b.c.d, compatible
  0xffffn, // ::ffff:a.b.c.d, mapped
  0xffff0000n, // ::ffff:0:a.b.c.d, translated
  0x64ff9b0000000000000000n, // 64:ff9b::a.b.c.d, NAT64
]);

function embeddedIpv4(value: bigint): Address | null {
  // :: and ::1 are addresses of their own.
  if (value <= 1n) return null;
  if (CARRIERS.has(value >> 32n)) return { family: 4, value: Number(value & 0xffff_ffffn) };
  // 2002:a.b.c.d::/48, 6to4
  return value >> 112n === 0x2002n ? { family: 4, value: Number((value >> 80n) & 0xffff_ffffn) } : null;
}

import { BlockList, isIP, isIPv4 } from 'node:net';

/** Tells whether an address is a proxy whose `X-Forwarded-For` is believed. */
export type TrustedProxy = (address: string) => boolean;

/** @param cidrs addresses or `address/prefix`, IPv4 and IPv6, already checked by the configuration */
export function compileTrustedProxies(cidrs: readonly string[]): TrustedProxy {
  const list = new BlockList();
  for (const cidr of cidrs) addSubnet(list, cidr);
  return (address) => {
    const plain = plainAddress(address);
    return isIP(plain) !== 0 && list.check(plain, family(plain));
  };
}

function addSubnet(list: BlockList, cidr: string): void {
  const [address = '', prefix] = cidr.split('/');
  if (prefix === undefined) list.addAddress(address, family(address));
  else list.addSubnet(address, Number(prefix), family(address));
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6';
}

/** A dual-stack socket shows IPv4 peers as `::ffff:1.2.3.4`; one client must not count as two. */
export function plainAddress(address: string): string {
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(address) ? address.slice(7) : address;
}

/**
 * The address that a request counts against: the right-most hop that no trusted proxy vouches for. What is not an
 * address (a proxy that writes `unknown`, or a port behind it) counts as the proxy itself.
 */
export function clientAddress(request: { readonly ip: string; readonly socket: { remoteAddress?: string } }): string {
  const address = plainAddress(request.ip ?? '');
  return isIP(address) === 0 ? plainAddress(request.socket.remoteAddress ?? '') : address;
}

export function isLoopback(address: string): boolean {
  const plain = plainAddress(address);
  return plain === '::1' || (isIPv4(plain) && plain.startsWith('127.'));
}

import { AddressError, parseAddress, parseCidr, parseHostCidr, printAddress, printCidr } from './address.ts';
import { ClientConfigError } from './config-error.ts';
import {
  KeyError,
  type PresharedKey,
  type PrivateKey,
  type PublicKey,
  parsePresharedKey,
  parsePrivateKey,
  parsePublicKey,
} from './keys.ts';
import { checkProtocolParams, type Protocol, type ProtocolParams, protocolKeys } from './protocol-params.ts';

export { ClientConfigError } from './config-error.ts';

/** Stands where the private key goes when only the client knows it. */
export const PRIVATE_KEY_PLACEHOLDER = 'REPLACE_WITH_YOUR_PRIVATE_KEY';

/** What a wg-quick file for a client may hold. Nothing here is free text: every value is read and printed anew. */
export interface ClientConfigInput {
  /** null prints {@link PRIVATE_KEY_PLACEHOLDER}. */
  readonly privateKey: string | null;
  /** The client's own addresses, `10.8.0.14/32`. At least one. */
  readonly addresses: readonly string[];
  /** IP addresses of resolvers. Empty: no line. */
  readonly dns: readonly string[];
  /** 576 … 65535, null: no line. */
  readonly mtu: number | null;
  /** The server. */
  readonly publicKey: string;
  readonly presharedKey: string | null;
  /** What the client routes into the tunnel, `0.0.0.0/0`. At least one. */
  readonly allowedIps: readonly string[];
  /** Seconds, 1 … 65535; null or 0: no line. */
  readonly persistentKeepalive: number | null;
  /** `vpn.example.com:51820` or `[2001:db8::1]:51820` */
  readonly endpoint: string;
  /** What the tunnel speaks. Default `wireguard`. */
  readonly protocol?: Protocol | undefined;
  /** What the protocol needs beside the keys: more lines of [Interface]. Plain WireGuard has none. */
  readonly protocolParams?: ProtocolParams | undefined;
}

export interface ClientConfig extends ClientConfigInput {
  readonly privateKey: PrivateKey | null;
  readonly publicKey: PublicKey;
  readonly presharedKey: PresharedKey | null;
}

export interface Endpoint {
  /** A host name in lower case, or a canonical IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * Prints a wg-quick file. Takes hostile strings safely: a value that is not exactly a key, an address, a name or a
 * number in range is an error, so no line can be smuggled in (`PostUp` runs as root on the client's machine).
 * @throws ClientConfigError
 */
export function printClientConfig(input: ClientConfigInput): string {
  const config = checkClientConfig(input);
  const lines = [
    '[Interface]',
    `PrivateKey = ${config.privateKey ?? PRIVATE_KEY_PLACEHOLDER}`,
    `Address = ${config.addresses.join(', ')}`,
    config.dns.length > 0 && `DNS = ${config.dns.join(', ')}`,
    config.mtu !== null && `MTU = ${config.mtu}`,
    ...Object.entries(config.protocolParams ?? {}).map(([key, value]) => `${key} = ${value}`),
    '',
    '[Peer]',
    `PublicKey = ${config.publicKey}`,
    config.presharedKey !== null && `PresharedKey = ${config.presharedKey}`,
    `AllowedIPs = ${config.allowedIps.join(', ')}`,
    config.persistentKeepalive !== null && `PersistentKeepalive = ${config.persistentKeepalive}`,
    `Endpoint = ${config.endpoint}`,
  ];
  return `${lines.filter((line) => line !== false).join('\n')}\n`;
}

/**
 * Reads a wg-quick file with exactly one [Interface] and one [Peer] and no key but those that
 * {@link printClientConfig} writes for that protocol. Comments are dropped. Everything in the answer is canonical.
 * @throws ClientConfigError
 */
export function parseClientConfig(text: string, protocol: Protocol = 'wireguard'): ClientConfig {
  const paramKeys = protocolKeys(protocol).map((key) => [key, `interface.${key.toLowerCase()}`] as const);
  const values = readSections(text, [...CONFIG_KEYS, ...paramKeys.map(([, name]) => name)]);
  const one = (key: ConfigKey) => values.get(key)?.[0];
  const list = (key: ConfigKey) => values.get(key)?.flatMap(splitList) ?? [];
  const privateKey = one('interface.privatekey');
  return checkClientConfig({
    privateKey: privateKey === undefined || privateKey === PRIVATE_KEY_PLACEHOLDER ? null : privateKey,
    addresses: list('interface.address'),
    dns: list('interface.dns'),
    mtu: readNumber('MTU', one('interface.mtu')),
    publicKey: one('peer.publickey') ?? '',
    presharedKey: one('peer.presharedkey') ?? null,
    allowedIps: list('peer.allowedips'),
    persistentKeepalive: readKeepalive(one('peer.persistentkeepalive')),
    endpoint: one('peer.endpoint') ?? '',
    ...(protocol === 'wireguard' ? {} : { protocol, protocolParams: givenParams(paramKeys, values) }),
  });
}

function givenParams(
  keys: readonly (readonly [string, string])[],
  values: ReadonlyMap<string, readonly string[]>,
): ProtocolParams {
  return Object.fromEntries(keys.flatMap(([key, name]) => (values.get(name) ?? []).map((value) => [key, value])));
}

/** Reads `host:port`; the host is a DNS name, an IPv4 address or an IPv6 address in brackets. @throws ClientConfigError */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(\[[0-9a-fA-F:]{2,39}\]|[A-Za-z0-9.-]{1,253}):([1-9][0-9]{0,4})$/.exec(text);
  const [host, port] = [match?.[1], Number(match?.[2])];
  if (host === undefined || port > 65535) throw new ClientConfigError('Endpoint', 'host:port is needed');
  return { host: readEndpointHost(host), port };
}

/** The text {@link parseEndpoint} reads. */
export function printEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Reads `1.1.1.1, 2606:4700:4700::1111`; empty text is an empty list. IP addresses only. @throws ClientConfigError */
export function parseDnsList(text: string): string[] {
  return text === '' ? [] : checkDns(splitList(text));
}

/** Reads `0.0.0.0/0, ::/0`; a bare address is a single host, bits behind a prefix are refused. @throws ClientConfigError */
export function parseAllowedIps(text: string): string[] {
  return checkAllowedIps(splitList(text));
}

const CONFIG_KEYS = [
  'interface.privatekey',
  'interface.address',
  'interface.dns',
  'interface.mtu',
  'peer.publickey',
  'peer.presharedkey',
  'peer.allowedips',
  'peer.persistentkeepalive',
  'peer.endpoint',
] as const;
type ConfigKey = (typeof CONFIG_KEYS)[number];

const LIST_KEYS: ReadonlySet<string> = new Set(['interface.address', 'interface.dns', 'peer.allowedips']);

/** Longer lists are an attack or a mistake, and QR codes end far below. */
const LIST_MAX = 512;
/** A client config is well under 10 KB even with a full route list. */
const TEXT_MAX = 64 * 1024;

function checkClientConfig(input: ClientConfigInput): ClientConfig {
  return {
    privateKey: input.privateKey === null ? null : checked('PrivateKey', () => parsePrivateKey(input.privateKey ?? '')),
    addresses: checkList('Address', input.addresses, (text) => printCidr(parseHostCidr(text)), 1),
    dns: checkDns(input.dns),
    mtu: checkNumber('MTU', input.mtu, 576),
    publicKey: checked('PublicKey', () => parsePublicKey(input.publicKey)),
    presharedKey:
      input.presharedKey === null ? null : checked('PresharedKey', () => parsePresharedKey(input.presharedKey ?? '')),
    allowedIps: checkAllowedIps(input.allowedIps),
    persistentKeepalive:
      input.persistentKeepalive === 0 ? null : checkNumber('PersistentKeepalive', input.persistentKeepalive, 1),
    endpoint: printEndpoint(parseEndpoint(input.endpoint)),
    ...checkProtocol(input),
  };
}

/** Nothing for plain WireGuard, so that its configs are what they always were. */
function checkProtocol({ protocol = 'wireguard', protocolParams = {} }: ClientConfigInput) {
  const checked = checkProtocolParams(protocol, protocolParams);
  return protocol === 'wireguard' ? {} : { protocol, protocolParams: checked };
}

function checkDns(list: readonly string[]): string[] {
  return checkList('DNS', list, (text) => printAddress(parseAddress(text)), 0);
}

function checkAllowedIps(list: readonly string[]): string[] {
  return checkList('AllowedIPs', list, readRoute, 1);
}

function readRoute(text: string): string {
  return printCidr(text.includes('/') ? parseCidr(text) : parseHostCidr(text));
}

function checkList(field: string, list: readonly string[], read: (text: string) => string, min: number): string[] {
  if (!Array.isArray(list) || list.length < min) throw new ClientConfigError(field, 'at least one is needed');
  if (list.length > LIST_MAX) throw new ClientConfigError(field, `more than ${LIST_MAX} entries`);
  return list.map((text) => checked(field, () => read(asText(field, text))));
}

/** Types are a promise of the caller's compiler, and a config is no place for what something else turns into. */
function asText(field: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new ClientConfigError(field, 'an entry is not text');
}

function checkNumber(field: string, value: number | null, min: number): number | null {
  if (value === null) return null;
  if (!Number.isInteger(value) || value < min || value > 65535) {
    throw new ClientConfigError(field, `a whole number from ${min} to 65535 is needed`);
  }
  return value;
}

function checked<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof KeyError) && !(cause instanceof AddressError)) throw cause;
    throw new ClientConfigError(field, cause.message, { cause });
  }
}

function readEndpointHost(host: string): string {
  if (host.startsWith('[')) {
    const address = checked('Endpoint', () => parseAddress(host.slice(1, -1)));
    return printAddress(address);
  }
  if (/^[0-9.]+$/.test(host)) return checked('Endpoint', () => printAddress(parseAddress(host)));
  const labels = host.toLowerCase().split('.');
  const isName = labels.every((label) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
  // Resolvers read 127.1 and 0x7f000001 as addresses, so a name must not end like a number.
  if (!isName || /^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) {
    throw new ClientConfigError('Endpoint', 'the host is neither a DNS name nor an IP address');
  }
  return labels.join('.');
}

function readSections(text: string, keys: readonly string[]): Map<string, string[]> {
  if (text.length > TEXT_MAX) throw new ClientConfigError('config', 'too long');
  if (!/^[\t\n\x20-\x7e]*$/.test(text.replaceAll('\r\n', '\n'))) {
    throw new ClientConfigError('config', 'only printable ASCII is allowed');
  }
  const values = new Map<string, string[]>();
  const sections: string[] = [];
  for (const raw of text.split(/\r?\n/)) {
    const line = (raw.split('#', 1)[0] ?? '').trim();
    if (line === '') continue;
    if (line.startsWith('[')) sections.push(line.toLowerCase());
    else addValue(values, keys, { section: sections.at(-1), line });
  }
  if (sections.toSorted().join() !== '[interface],[peer]') {
    throw new ClientConfigError('config', 'exactly one [Interface] and one [Peer] are needed');
  }
  return values;
}

interface ConfigLine {
  readonly section: string | undefined;
  readonly line: string;
}

function addValue(values: Map<string, string[]>, keys: readonly string[], { section, line }: ConfigLine): void {
  const equals = line.indexOf('=');
  const name = `${section?.slice(1, -1)}.${line.slice(0, equals).trim().toLowerCase()}`;
  const key = keys.find((known) => known === name);
  if (equals < 0 || key === undefined) throw new ClientConfigError('config', 'a line is not one of the allowed keys');
  const before = values.get(key) ?? [];
  if (before.length > 0 && !LIST_KEYS.has(key)) throw new ClientConfigError(key, 'given twice');
  values.set(key, [...before, line.slice(equals + 1).trim()]);
}

function splitList(text: string): string[] {
  return text.split(',').map((item) => item.replace(/^[ \t]+|[ \t]+$/g, ''));
}

function readNumber(field: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  if (!/^[0-9]{1,5}$/.test(text)) throw new ClientConfigError(field, 'not a number');
  return Number(text);
}

function readKeepalive(text: string | undefined): number | null {
  return text === 'off' ? null : readNumber('PersistentKeepalive', text);
}

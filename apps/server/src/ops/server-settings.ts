import type { ServerRow } from '@vpn-api/db';
import {
  AddressError,
  ClientConfigError,
  checkProtocolParams,
  KeyError,
  OutboundError,
  OutboundGuard,
  type ProtocolParams,
  parseAllowedIps,
  parseDnsList,
  parseEndpoint,
  parsePool,
  parsePublicKey,
  printCidr,
  printEndpoint,
} from '@vpn-api/wg';
import { invalidField } from '../domain/errors.ts';
import { parseSshAddress } from '../domain/ssh-address.ts';
import type { Services } from '../services.ts';
import type { HostCredentials } from './host-credentials.ts';

/** The operator's own scripts on a host over SSH: absolute paths. */
export interface ServerScripts {
  readonly apply?: string | undefined;
  readonly remove?: string | undefined;
  readonly generate?: string | undefined;
}

/** What a person may say about a server. Named as its columns are, since that is what it becomes. */
export interface ServerSettings {
  readonly name: string;
  readonly region: string | null;
  readonly driver: ServerRow['driver'];
  readonly keys: ServerRow['keys'];
  /** URL of a wg-easy, or `user@host[:port]`. */
  readonly address: string | null;
  readonly username: string | null;
  /** Pins, separated by spaces. Without one the host is refused, and a test tells what it shows. */
  readonly host_fingerprint: string | null;
  readonly privilege: ServerRow['privilege'];
  readonly scripts: ServerScripts;
  readonly interface: string;
  readonly endpoint: string | null;
  readonly public_key: string | null;
  readonly pool_v4: string;
  readonly pool_v6: string | null;
  readonly dns: string | null;
  readonly mtu: number;
  readonly client_allowed_ips: string;
  readonly keepalive: number;
  readonly protocol: ServerRow['protocol'];
  readonly protocol_params: ProtocolParams;
  readonly capacity: number | null;
  readonly weight: number;
}

type Deps = Pick<Services, 'config'>;

/**
 * Reads settings as a whole, so that none contradicts another, and answers the columns: every value parsed and printed
 * again. Nothing is connected to.
 * @throws DomainError `validation_failed` naming the field, never its value
 */
export function settingsColumns(deps: Deps, settings: ServerSettings, credentials: HostCredentials) {
  checkHost(deps, settings, credentials);
  const { driver, address } = settings;
  return {
    name: settings.name,
    region: settings.region,
    driver,
    keys: settings.keys,
    address: driver === 'wg-easy' && address !== null ? new URL(address).origin : address,
    username: settings.username,
    host_fingerprint: settings.host_fingerprint,
    privilege: settings.privilege,
    scripts: JSON.stringify(settings.scripts),
    interface: settings.interface,
    endpoint: read('endpoint', settings.endpoint, (text) => printEndpoint(parseEndpoint(text))),
    public_key: read('public_key', settings.public_key, parsePublicKey),
    pool_v4: readPool('pool_v4', settings.pool_v4, 4) ?? '',
    pool_v6: readPool('pool_v6', settings.pool_v6, 6),
    dns: read('dns', settings.dns, (text) => parseDnsList(text).join(', ')),
    mtu: settings.mtu,
    client_allowed_ips:
      read('client_allowed_ips', settings.client_allowed_ips, (text) => parseAllowedIps(text).join(', ')) ?? '',
    keepalive: settings.keepalive,
    protocol: settings.protocol,
    protocol_params: JSON.stringify(checkedParams(settings)),
    capacity: settings.capacity,
    weight: settings.weight,
  } as const;
}

/** The settings that a row came from. */
export function settingsOf(row: ServerRow): ServerSettings {
  const { scripts, protocol_params, ...columns } = row;
  return {
    ...columns,
    scripts: JSON.parse(scripts) as ServerScripts,
    protocol_params: JSON.parse(protocol_params) as ProtocolParams,
  };
}

function checkHost(deps: Deps, settings: ServerSettings, credentials: HostCredentials): void {
  const { driver } = settings;
  if (driver === 'wg-easy') checkWgEasy(deps, settings, credentials);
  else if (driver === 'ssh') checkSsh(deps, settings, credentials);
  else if (driver === 'none') checkNone(settings, credentials);
  // It would hand the machine that this program runs on, with paths of programs to start, to whoever has an admin's
  // token. Whoever writes the settings has that machine already.
  else throw invalidField('driver', 'local is for the settings of this server only; use ssh');
}

function checkWgEasy(deps: Deps, settings: ServerSettings, { password, apiKey, privateKey }: HostCredentials): void {
  const url = checkUrl(deps, settings.address);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw invalidField('address', 'must be http(s)://host[:port], without a path');
  }
  if (!password && !apiKey) throw invalidField('credentials', 'a password or an api_key is needed');
  if (privateKey !== undefined) throw invalidField('credentials.private_key', 'is not for a wg-easy');
  if (settings.keys !== 'reported') throw invalidField('keys', 'a wg-easy makes the keys: reported');
  refuseShell(settings);
}

function checkUrl({ config }: Deps, address: string | null): URL {
  if (address === null) throw invalidField('address', 'is required: the URL of the wg-easy');
  try {
    return new OutboundGuard(config.outboundAllow).check(address);
  } catch (error) {
    if (!(error instanceof OutboundError)) throw error;
    throw invalidField('address', error.code === 'bad_url' ? error.message : NOT_ALLOWED);
  }
}

const NOT_ALLOWED = 'the address is private or reserved, and OUTBOUND_ALLOW does not have it';

function checkSsh({ config }: Deps, settings: ServerSettings, credentials: HostCredentials): void {
  const address = settings.address === null ? undefined : parseSshAddress(settings.address);
  if (address === undefined) throw invalidField('address', 'must be user@host or user@host:port');
  const isLiteral = /^[\d.]+$|:/.test(address.host);
  if (isLiteral && !new OutboundGuard(config.outboundAllow).isAllowed(address.host)) {
    throw invalidField('address', NOT_ALLOWED);
  }
  if (credentials.privateKey === undefined) throw invalidField('credentials.private_key', 'is required');
  if (credentials.password !== undefined || credentials.apiKey !== undefined) {
    throw invalidField('credentials', 'a host over SSH takes a private_key and its passphrase');
  }
  if (settings.username !== null) throw invalidField('username', 'is part of the address: user@host');
  checkScripts(settings);
}

function checkScripts({ privilege, scripts, keys }: ServerSettings): void {
  const hasScripts = Object.values(scripts).some((path) => path !== undefined);
  if (privilege === 'kit' && hasScripts) throw invalidField('scripts', 'the host kit has its own');
  if (keys === 'reported' && privilege !== 'kit' && scripts.generate === undefined) {
    throw invalidField('keys', 'reported needs the host kit, or scripts.generate');
  }
}

function checkNone(settings: ServerSettings, credentials: HostCredentials): void {
  if (settings.address !== null) throw invalidField('address', 'is not for a server without a host');
  if (Object.keys(credentials).length > 0) throw invalidField('credentials', 'are not for a server without a host');
  if (settings.keys !== 'given') throw invalidField('keys', 'no host, nobody to make keys: given');
  refuseShell(settings);
}

function refuseShell({ host_fingerprint, privilege, scripts }: ServerSettings): void {
  if (host_fingerprint !== null) throw invalidField('host_fingerprint', 'is for hosts over SSH');
  if (privilege !== 'direct') throw invalidField('privilege', 'is for hosts over SSH');
  if (Object.keys(scripts).length > 0) throw invalidField('scripts', 'are for hosts over SSH');
}

function readPool(field: string, text: string | null, family: 4 | 6): string | null {
  return read(field, text, (pool) => {
    const parsed = parsePool(pool);
    if (parsed.family !== family) throw invalidField(field, `must be an IPv${family} network`);
    return printCidr(parsed);
  });
}

/** @throws DomainError `validation_failed` */
export function checkedParams({
  protocol,
  protocol_params,
}: Pick<ServerSettings, 'protocol' | 'protocol_params'>): ProtocolParams {
  try {
    return checkProtocolParams(protocol, protocol_params);
  } catch (error) {
    if (error instanceof ClientConfigError) throw invalidField('protocol_params', error.message);
    throw error;
  }
}

function read(field: string, text: string | null, parse: (text: string) => string): string | null {
  if (text === null) return null;
  try {
    return parse(text);
  } catch (error) {
    const isRefusal = error instanceof AddressError || error instanceof ClientConfigError || error instanceof KeyError;
    if (isRefusal) throw invalidField(field, error.message);
    throw error;
  }
}

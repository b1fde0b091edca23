import { AddressError, parseAddress, parseHostCidr, parsePool, printAddress, printCidr } from '@vpn-api/wg/address';

/** Why the text of a variable is refused. Ends a sentence that begins with the variable's name; never repeats the text. */
export class Refusal extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Refusal';
  }
}

/** Reads the text of one variable. @throws Refusal */
export type Parser<T> = (text: string) => T;

export const anyText: Parser<string> = (text) => text;

export function oneOf<const T extends string>(...choices: readonly T[]): Parser<T> {
  return (text) => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw new Refusal(`must be one of ${choices.join(', ')}`);
    return found;
  };
}

export const flag: Parser<boolean> = (text) => {
  const known = new Map([
    ['0', false],
    ['false', false],
    ['1', true],
    ['true', true],
  ]).get(text.toLowerCase());
  if (known === undefined) throw new Refusal('must be 0 or 1');
  return known;
};

export function wholeNumber(min: number, max: number): Parser<number> {
  return (text) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new Refusal(`must be a whole number from ${min} to ${max}`);
    return value;
  };
}

export function matching(pattern: RegExp, complaint: string): Parser<string> {
  return (text) => {
    if (!pattern.test(text)) throw new Refusal(complaint);
    return text;
  };
}

/** Parts between commas, trimmed; none may be empty or appear twice. */
export function commaList<T>(parse: Parser<T>): Parser<readonly T[]> {
  return (text) => {
    const parts = text.split(',').map((part) => part.trim());
    if (parts.includes('')) throw new Refusal('must be a comma list without empty parts');
    if (new Set(parts).size !== parts.length) throw new Refusal('names the same thing twice');
    return parts.map(parse);
  };
}

/** `http` or `https`, without credentials, query and fragment; answered without a slash at its end. */
export const httpUrl: Parser<string> = (text) => {
  const url = parseUrl(text);
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) throw new Refusal('must be an http(s) address');
  if (url.username !== '' || url.password !== '') throw new Refusal('must not hold a user name or password');
  if (url.search !== '' || url.hash !== '') throw new Refusal('must have neither query nor fragment');
  return url.href.replace(/\/$/, '');
};

/** Scheme, host and port, as browsers send it in `Origin`. */
export const origin: Parser<string> = (text) => {
  if (text === '*') throw new Refusal('must name the origins; * is not allowed');
  const url = parseUrl(text);
  const isWeb = url !== undefined && ['http:', 'https:'].includes(url.protocol);
  if (!isWeb || text.replace(/\/$/, '').toLowerCase() !== url.origin) {
    throw new Refusal('must be origins: http(s)://host[:port] without a path');
  }
  return url.origin;
};

export const smtpUrl: Parser<string> = (text) => {
  const url = parseUrl(text);
  if (url === undefined || !['smtp:', 'smtps:'].includes(url.protocol) || url.hostname === '') {
    throw new Refusal('must be smtp://host or smtps://host, with user and password if needed');
  }
  return text;
};

export function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** A name that DNS could hold, or an address. Names of digits and dots alone are addresses or nothing. */
export function isHost(text: string): boolean {
  if (isAddress(text)) return true;
  return HOST_NAME.test(text) && !/^[\d.]+$/.test(text);
}

export const listenHost: Parser<string> = (text) => {
  if (!isHost(text)) throw new Refusal('must be a host name or an address');
  return text;
};

/** `host:port`, an IPv6 host in brackets; printed again in canonical form. */
export const endpoint: Parser<string> = (text) => {
  const match = /^(?:\[([0-9A-Fa-f:]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  const [, v6, name = '', port = ''] = match ?? [];
  const host = v6 === undefined ? name : v6;
  if (match === null || !isHost(host) || Number(port) < 1 || Number(port) > 65_535) {
    throw new Refusal('must be host:port, an IPv6 address in brackets');
  }
  return v6 === undefined ? `${host}:${Number(port)}` : `[${printAddress(parseAddress(v6))}]:${Number(port)}`;
};

export const address: Parser<string> = (text) => explained(() => printAddress(parseAddress(text)));

/** An address or a network; a bare address is a /32 or /128. Host bits are cleared by nobody: they are refused. */
export const cidr: Parser<string> = (text) =>
  explained(() => {
    const parsed = parseHostCidr(text);
    const bits = parsed.family === 4 ? 32 : 128;
    const hostBits = BigInt(parsed.value) & ((1n << BigInt(bits - parsed.prefix)) - 1n);
    if (hostBits !== 0n) throw new Refusal('must be networks: the address has bits set behind its prefix');
    return printCidr(parsed);
  });

export function pool(family: 4 | 6): Parser<string> {
  return (text) =>
    explained(() => {
      const parsed = parsePool(text);
      if (parsed.family !== family) throw new Refusal(`must be an IPv${family} network`);
      return printCidr(parsed);
    });
}

function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}

function explained<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof AddressError) throw new Refusal(`is refused: ${error.message}`);
    throw error;
  }
}

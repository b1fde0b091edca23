import { email, id, name, telegramId } from '../api/fields.ts';

/** Who a peer on a host belongs to, as an operator wrote it down. */
export interface Owner {
  readonly email?: string;
  readonly telegramId?: number;
  readonly userId?: number;
  readonly deviceName?: string;
}

/** By public key, or by the name that the host has for the peer. */
export type Owners = ReadonlyMap<string, Owner>;

const MAX_LINES = 1_000_000;
const deviceName = name(64);

/**
 * Reads `public key or name, owner[, device name]`, one peer a line. The owner is an e-mail, a Telegram id or `user:17`; a
 * field with a comma stands in double quotes. Blank lines and those that begin with `#` are passed over.
 * @throws Error naming the line
 */
export function parseOwners(text: string): Owners {
  const owners = new Map<string, Owner>();
  // Spreadsheets put a mark in front of what they save.
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  if (lines.length > MAX_LINES) throw new Error(`more than ${MAX_LINES} lines`);
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    try {
      const { peer, owner } = readLine(line);
      if (owners.has(peer)) throw new Error('this peer was named before');
      owners.set(peer, owner);
    } catch (error) {
      throw new Error(`line ${index + 1}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return owners;
}

function readLine(line: string): { readonly peer: string; readonly owner: Owner } {
  const fields = splitFields(line);
  const [peer = '', who = '', device = ''] = fields;
  if (peer === '' || who === '' || fields.length > 3) throw new Error('say "public key or name, owner[, device name]"');
  const owner = parseOwner(who);
  if (owner === undefined) throw new Error('the owner is no e-mail, Telegram id or user:ID');
  if (device === '') return { peer, owner };
  const { data } = deviceName.safeParse(device);
  if (data === undefined) throw new Error('the device name is longer than 64 characters, or has some that nobody sees');
  return { peer, owner: { ...owner, deviceName: data } };
}

/** Undefined for a text that names nobody. An e-mail is answered in the form in which accounts are found. */
export function parseOwner(text: string): Owner | undefined {
  const [, account] = /^user:([1-9]\d{0,9})$/.exec(text) ?? [];
  if (account !== undefined) return id.safeParse(Number(account)).success ? { userId: Number(account) } : undefined;
  if (/^[1-9]\d{0,15}$/.test(text)) {
    return telegramId.safeParse(Number(text)).success ? { telegramId: Number(text) } : undefined;
  }
  const { data } = email.safeParse(text);
  return data === undefined ? undefined : { email: data };
}

/** @throws Error when a quote stays open, or stands within a field */
function splitFields(line: string): string[] {
  const fields: string[] = [];
  let rest = line;
  for (;;) {
    const quoted = /^\s*"((?:[^"]|"")*)"\s*(?:,|$)/.exec(rest);
    const plain = quoted === null ? /^([^,"]*)(?:,|$)/.exec(rest) : null;
    const [whole, field = ''] = quoted ?? plain ?? [];
    if (whole === undefined) throw new Error('a double quote is not closed, or stands within a field');
    fields.push(quoted === null ? field.trim() : field.replaceAll('""', '"'));
    if (!whole.endsWith(',')) return fields;
    rest = rest.slice(whole.length);
  }
}

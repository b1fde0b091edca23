import { parseHostCidr, printCidr } from '../address.ts';
import { DriverError, type ObservedPeer } from '../driver.ts';
import type { PresharedKey, PublicKey } from '../keys.ts';

const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const COUNTER = /^[0-9]{1,20}$/;

/**
 * Reads the peer lines of `wg show IF dump`, without its first line: that one is the interface and holds its private
 * key, which has no business here.
 * @throws DriverError `bad_answer`, without any of the text
 */
export function parsePeerDump(text: string): ObservedPeer[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parsePeerLine);
}

/** Reads what `wg show IF public-key` and `wg show IF listen-port` print, one a line. */
export function parseDescription(text: string): { publicKey: PublicKey; listenPort: number } {
  const [publicKey = '', port = ''] = text.split('\n');
  if (publicKey === '(none)') throw new DriverError('bad_answer', 'the interface has no private key');
  if (!/^[0-9]{1,5}$/.test(port)) throw badAnswer();
  return { publicKey: readKey<PublicKey>(publicKey), listenPort: Number(port) };
}

function parsePeerLine(line: string): ObservedPeer {
  const fields = line.split('\t');
  // The host kit knows names of the keys it made: a ninth field.
  const tag = fields.length === 9 ? readTag(fields.pop()) : undefined;
  if (fields.length !== 8) throw badAnswer();
  const [publicKey, presharedKey, endpoint, allowedIps, handshake, rx, tx] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return {
    publicKey: readKey<PublicKey>(publicKey),
    presharedKey: presharedKey === '(none)' ? null : readKey<PresharedKey>(presharedKey),
    allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(',').map(canonicalCidr),
    enabled: true,
    endpoint: endpoint === '(none)' ? null : endpoint,
    lastHandshakeAt: readHandshake(handshake),
    rxBytes: readCounter(rx),
    txBytes: readCounter(tx),
    ...(tag !== undefined && { tag }),
  };
}

function readTag(text = ''): string {
  if (!/^[A-Za-z0-9_.-]{1,32}$/.test(text)) throw badAnswer();
  return text;
}

/** A foreign peer may hold ranges that the strict parser refuses. They are shown as the host prints them. */
function canonicalCidr(text: string): string {
  try {
    return printCidr(parseHostCidr(text));
  } catch {
    return text;
  }
}

/** The host may hold keys we would not accept from a client: only the form is checked. */
function readKey<Key extends string>(text: string): Key {
  if (!KEY.test(text)) throw badAnswer();
  return text as Key;
}

function readHandshake(text: string): string | null {
  const seconds = readCounter(text);
  return seconds === 0 ? null : new Date(seconds * 1000).toISOString();
}

function readCounter(text: string): number {
  const value = Number(text);
  if (!COUNTER.test(text) || !Number.isSafeInteger(value)) throw badAnswer();
  return value;
}

function badAnswer(): DriverError {
  return new DriverError('bad_answer', 'the output of wg could not be read');
}

import { derivePublicKey, type PrivateKey, type PublicKey, parsePrivateKey, parsePublicKey } from '../keys.ts';

/** A key pair that a host made for a name. Holds a secret. */
export interface GeneratedPair {
  readonly publicKey: PublicKey;
  /** null when the host does not give it out. */
  readonly privateKey: PrivateKey | null;
}

/** Names of key files: nothing that could be an option, a path or a hidden file. */
const KEY_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/;
const LINE = /^(NAME|PUBLIC|PRIVATE|KEY)=(.*)$/;

/** @throws TypeError for a tag that cannot name a key file on a host */
export function checkKeyName(tag: string): string {
  if (!KEY_NAME.test(tag) || tag.includes('\n')) throw new TypeError('the tag cannot name a key pair on the host');
  return tag;
}

/**
 * Reads what the generate command prints: for each name `NAME=`, then `PUBLIC=`, `PRIVATE=` (a key, or the path of a
 * file) and `KEY=` (the content of that file, empty when it cannot be read), in any order. Other lines are a script's
 * chatter. A name whose lines do not make a pair is left out.
 */
export function parseGenerated(text: string): ReadonlyMap<string, GeneratedPair> {
  const pairs = new Map<string, GeneratedPair>();
  const seen = new Set<string>();
  for (const record of splitRecords(text)) {
    const pair = readPair(record);
    const name = record.get('NAME') ?? '';
    // Two answers for one name: neither can be trusted.
    if (pair === null || seen.has(name)) pairs.delete(name);
    else pairs.set(name, pair);
    seen.add(name);
  }
  return pairs;
}

type Record = Map<string, string>;

function splitRecords(text: string): Record[] {
  const records: Record[] = [];
  for (const line of text.split('\n')) {
    const match = LINE.exec(line.trimEnd());
    if (match === null) continue;
    const [, field = '', value = ''] = match;
    if (field === 'NAME') records.push(new Map());
    const record = records.at(-1);
    // The first line of a kind counts: a script cannot overwrite its own answer.
    if (record !== undefined && !record.has(field)) record.set(field, value);
  }
  return records;
}

function readPair(record: Record): GeneratedPair | null {
  try {
    const publicKey = parsePublicKey(record.get('PUBLIC') ?? '');
    const printed = record.get('PRIVATE') ?? '';
    const text = printed === '' || printed.startsWith('/') ? (record.get('KEY') ?? '') : printed;
    if (text === '') return { publicKey, privateKey: null };
    const privateKey = parsePrivateKey(text);
    return derivePublicKey(privateKey) === publicKey ? { publicKey, privateKey } : null;
  } catch {
    return null;
  }
}

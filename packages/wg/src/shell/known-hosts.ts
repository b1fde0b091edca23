import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** `SHA256:` and the unpadded base64 of 32 bytes, as `ssh-keygen -lf` prints it. */
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;

/** The fingerprint `ssh-keygen -lf` prints for a raw public key: `SHA256:…` without padding. */
export function hostKeyFingerprint(rawKey: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(rawKey).digest('base64').replace(/=+$/, '')}`;
}

/** Takes a fingerprint with or without base64 padding. @throws TypeError for anything else */
export function parseFingerprint(text: string): string {
  const fingerprint = text.trim().replace(/=$/, '');
  if (!FINGERPRINT.test(fingerprint)) throw new TypeError('a host fingerprint is SHA256: and 43 base64 characters');
  return fingerprint;
}

/**
 * The fingerprints that a known_hosts file holds for one host: plain and hashed names, patterns, `[host]:port` for
 * ports other than 22. Revoked keys are left out even when another line names them; certificate authorities are not
 * understood and left out too.
 *
 * @param text the content of the file
 * @returns `SHA256:…`, each once; empty when the host is not in the file
 */
export function knownHostFingerprints(text: string, host: string, port = 22): string[] {
  const name = port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;
  const entries = text
    .split(/\r?\n/)
    .map(readEntry)
    .filter((entry) => entry !== null && matchesHosts(entry.hosts, name)) as Entry[];
  const revoked = new Set(entries.filter(({ marker }) => marker === '@revoked').map(({ key }) => key));
  const good = entries.filter(({ marker, key }) => marker === null && !revoked.has(key));
  return [...new Set(good.map(({ key }) => hostKeyFingerprint(Buffer.from(key, 'base64'))))];
}

interface Entry {
  readonly marker: string | null;
  readonly hosts: string;
  /** Base64 of the raw key. */
  readonly key: string;
}

function readEntry(line: string): Entry | null {
  const words = line.trim().split(/[ \t]+/);
  const marker = words[0]?.startsWith('@') ? (words.shift() as string) : null;
  const [hosts, , key] = words;
  if (hosts === undefined || key === undefined || hosts.startsWith('#')) return null;
  return /^[A-Za-z0-9+/]{16,}={0,2}$/.test(key) ? { marker, hosts, key } : null;
}

function matchesHosts(hosts: string, name: string): boolean {
  if (hosts.startsWith('|')) return matchesHashed(hosts, name);
  const patterns = hosts.toLowerCase().split(',');
  if (patterns.some((pattern) => pattern.startsWith('!') && matchesPattern(pattern.slice(1), name))) return false;
  return patterns.some((pattern) => matchesPattern(pattern, name));
}

/** `|1|salt|HMAC-SHA1 of the name|` */
function matchesHashed(hosts: string, name: string): boolean {
  const [, version, salt = '', hash = ''] = hosts.split('|');
  if (version !== '1') return false;
  const expected = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
  const given = Buffer.from(hash, 'base64');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** `*` and `?` as in a file name. Goes back to the last star only, so no pattern takes long. */
function matchesPattern(pattern: string, name: string): boolean {
  let [at, from, star, resume] = [0, 0, -1, 0];
  while (from < name.length) {
    if (pattern[at] === '*') {
      star = at++;
      resume = from;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === name[from])) {
      at += 1;
      from += 1;
    } else if (star >= 0) {
      at = star + 1;
      resume += 1;
      from = resume;
    } else return false;
  }
  return [...pattern.slice(at)].every((char) => char === '*');
}

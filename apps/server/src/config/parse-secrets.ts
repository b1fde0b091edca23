import { type EncryptionKey, keyFingerprint } from '../crypto/secret-box.ts';
import { Refusal } from './parse.ts';

const ENCRYPTION_KEY_BYTES = 32;
const MIN_WEBHOOK_SECRET_BYTES = 24;
const MAX_WEBHOOK_SECRET_BYTES = 64;

/** Names that a further sender of the standard format may not take. */
export const builtInProviders: readonly string[] = [
  'standard',
  'yookassa',
  'telegram_stars',
  'crypto_pay',
  'stripe',
  'manual',
];

/**
 * One key, or `id:key,id2:key2`. A key without an id gets one from its fingerprint.
 * @throws Refusal
 */
export function parseEncryptionKeys(text: string): readonly EncryptionKey[] {
  const keys = text.split(',').map((part) => parseEncryptionKey(part.trim()));
  if (new Set(keys.map(({ id }) => id)).size !== keys.length) throw new Refusal('uses one key id twice');
  return keys;
}

function parseEncryptionKey(text: string): EncryptionKey {
  const colon = text.indexOf(':');
  const key = decodeBase64(text.slice(colon + 1));
  if (key?.length !== ENCRYPTION_KEY_BYTES) throw new Refusal('must be base64 of 32 bytes, or id:key,id2:key2');
  if (colon < 0) return { id: keyFingerprint(key), key };
  const id = text.slice(0, colon);
  if (!/^[A-Za-z0-9_-]{1,32}$/.test(id)) throw new Refusal('needs key ids of 1 to 32 letters, digits, "_" or "-"');
  return { id, key };
}

/** One sender's secrets, separated by spaces: deliveries signed with any of them are accepted. @throws Refusal */
export function parseWebhookSecrets(text: string): readonly string[] {
  return text.split(/\s+/).map((secret) => {
    const bytes = secret.startsWith('whsec_') ? decodeBase64(secret.slice('whsec_'.length)) : undefined;
    if (bytes === undefined || bytes.length < MIN_WEBHOOK_SECRET_BYTES || bytes.length > MAX_WEBHOOK_SECRET_BYTES) {
      throw new Refusal('must be whsec_ followed by base64 of 24 to 64 bytes; several are separated by spaces');
    }
    return secret;
  });
}

/** `name=whsec_…,name2=whsec_… whsec_…`. @throws Refusal */
export function parseNamedSenders(text: string): ReadonlyMap<string, readonly string[]> {
  const senders = text.split(',').map((part) => parseNamedSender(part.trim()));
  const byName = new Map(senders);
  if (byName.size !== senders.length) throw new Refusal('names the same sender twice');
  return byName;
}

function parseNamedSender(text: string): [string, readonly string[]] {
  const equals = text.indexOf('=');
  const name = text.slice(0, Math.max(0, equals));
  if (!/^[a-z][a-z0-9_]{0,31}$/.test(name)) throw new Refusal('must be name=whsec_…, names like telegram_bot');
  if (builtInProviders.includes(name))
    throw new Refusal(`must not name a built-in provider (${builtInProviders.join(', ')})`);
  return [name, parseWebhookSecrets(text.slice(equals + 1).trim())];
}

/** Both alphabets, with or without padding; undefined for anything that is not base64 to its last bit. */
export function decodeBase64(text: string): Buffer | undefined {
  const plain = text
    .replace(/={1,2}$/, '')
    .replaceAll('-', '+')
    .replaceAll('_', '/');
  const bytes = Buffer.from(plain, 'base64');
  return plain !== '' && bytes.toString('base64').replace(/=+$/, '') === plain ? bytes : undefined;
}

const PLACEHOLDER =
  /change.?me|replace.?me|your.?secret|example|placeholder|^secret|password|insecure|dev.?secret|^test/i;
/** 32 random bytes in hex, the poorest usual spelling, have 14 different characters or more. */
const MIN_DISTINCT_CHARACTERS = 8;

/** Whether a secret that is long enough was still not drawn at random: repeated characters or a known placeholder. */
export function looksWeak(secret: string): boolean {
  return new Set(secret).size < MIN_DISTINCT_CHARACTERS || PLACEHOLDER.test(secret);
}

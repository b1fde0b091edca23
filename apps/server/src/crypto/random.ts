import { createHash, hash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Random } from '../services.ts';

/** The operating system's generator. Tests pass their own. */
export const systemRandom: Random = { bytes: (length) => randomBytes(length) };

const API_KEY_PREFIX = 'vpk_';
/** Enough of a key to tell two apart in a list, far too little to guess the rest. */
const API_KEY_HINT_LENGTH = API_KEY_PREFIX.length + 4;

/** `length` random bytes as base64url without padding. */
export function randomText(random: Random, length: number): string {
  return Buffer.from(random.bytes(length)).toString('base64url');
}

/** 256 random bits as 43 characters. Only its SHA-256 is stored. */
export function newRefreshToken(random: Random): string {
  return randomText(random, 32);
}

/** 128 random bits as 22 characters: what payment providers carry in their metadata. */
export function newReference(random: Random): string {
  return randomText(random, 16);
}

/** `vpk_` and 256 random bits. The prefix lets scanners of leaked secrets, and our own log, recognise a key. */
export function newApiKey(random: Random): string {
  return `${API_KEY_PREFIX}${randomText(random, 32)}`;
}

/** Tells an API key from an access token by its prefix alone; says nothing about whether it is valid. */
export function isApiKey(token: string): boolean {
  return token.startsWith(API_KEY_PREFIX);
}

/** The first characters of an API key, to be stored and shown beside its name. */
export function apiKeyHint(apiKey: string): string {
  return apiKey.slice(0, API_KEY_HINT_LENGTH);
}

/** A random version 4 UUID, for token and request ids. */
export function newUuid(random: Random): string {
  const bytes = Buffer.from(random.bytes(16));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** SHA-256 of the UTF-8 text, lower-case hex. Right for stored random tokens; never for passwords. */
export function sha256Hex(text: string): string {
  return hash('sha256', text, 'hex');
}

/**
 * Compares two secrets in a time that depends on neither their content nor where they differ. Both are hashed first,
 * since `timingSafeEqual` refuses unequal lengths and the refusal alone would tell the length.
 */
export function equalsConstantTime(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

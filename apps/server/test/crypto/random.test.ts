import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  apiKeyHint,
  equalsConstantTime,
  isApiKey,
  newApiKey,
  newReference,
  newRefreshToken,
  newUuid,
  sha256Hex,
  systemRandom,
} from '../../src/crypto/random.ts';

test('a refresh token holds 32 random bytes, a reference 16', () => {
  expect(Buffer.from(newRefreshToken(systemRandom), 'base64url')).toHaveLength(32);
  expect(newRefreshToken(systemRandom)).toMatch(/^[A-Za-z0-9_-]{43}$/);
  expect(newReference(systemRandom)).toMatch(/^[A-Za-z0-9_-]{22}$/);
});

test('an API key is told from a token by its prefix, and its hint gives almost nothing away', () => {
  const key = newApiKey(systemRandom);
  expect(key).toMatch(/^vpk_[A-Za-z0-9_-]{43}$/);
  expect(isApiKey(key)).toBe(true);
  expect(isApiKey('eyJhbGciOiJIUzI1NiJ9.e30.x')).toBe(false);
  expect(apiKeyHint(key)).toBe(key.slice(0, 8));
});

test('nothing is drawn twice', () => {
  const drawn = Array.from({ length: 1000 }, () => newReference(systemRandom));
  expect(new Set(drawn).size).toBe(1000);
});

test('the same random bytes make the same text, so tests can foresee it', () => {
  const random = { bytes: (length: number) => new Uint8Array(length).fill(1) };
  expect(newReference(random)).toBe('AQEBAQEBAQEBAQEBAQEBAQ');
  expect(newUuid(random)).toBe('01010101-0101-4101-8101-010101010101');
});

test('sha256Hex hashes the UTF-8 bytes', () => {
  expect(sha256Hex('ключ😀')).toBe(createHash('sha256').update('ключ😀', 'utf8').digest('hex'));
});

test('secrets of any two lengths can be compared', () => {
  expect(equalsConstantTime('abc', 'abc')).toBe(true);
  expect(equalsConstantTime('abc', 'abd')).toBe(false);
  expect(equalsConstantTime('abc', 'abcd')).toBe(false);
  expect(equalsConstantTime('', '')).toBe(true);
});

import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  derivePublicKey,
  generateKeyPair,
  generatePresharedKey,
  KeyError,
  type PrivateKey,
  parsePresharedKey,
  parsePrivateKey,
  parsePublicKey,
} from '../src/keys.ts';

const fromHex = (hex: string) => Buffer.from(hex, 'hex').toString('base64');

describe('keys', () => {
  test('a derived public key is the one OpenSSL has for the same private key', () => {
    for (let round = 0; round < 20; round += 1) {
      const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
      const privateKey = Buffer.from(d, 'base64url').toString('base64') as PrivateKey;
      expect(derivePublicKey(privateKey)).toBe(Buffer.from(x, 'base64url').toString('base64'));
    }
  });

  test('generated keys are accepted, differ, and are clamped as wg does', () => {
    const [a, b] = [generateKeyPair(), generateKeyPair()];
    expect(a.privateKey).not.toBe(b.privateKey);
    expect(parsePrivateKey(a.privateKey)).toBe(a.privateKey);
    expect(parsePublicKey(a.publicKey)).toBe(a.publicKey);
    const bytes = Buffer.from(a.privateKey, 'base64');
    expect([bytes.readUInt8(0) & 7, bytes.readUInt8(31) & 192]).toEqual([0, 64]);
    expect(parsePresharedKey(generatePresharedKey())).toMatch(/^.{43}=$/);
  });

  test.each([
    ['zero', '00'.repeat(32)],
    ['one', `01${'00'.repeat(31)}`],
    ['of order 8', 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'],
    ['of order 8, the other', '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157'],
    ['p - 1', `ec${'ff'.repeat(30)}7f`],
    ['p', `ed${'ff'.repeat(30)}7f`],
    ['p + 1', `ee${'ff'.repeat(30)}7f`],
    ['not reduced', `ff${'ff'.repeat(31)}`],
    ['with the ignored top bit set', `09${'00'.repeat(30)}80`],
  ])('the public key %s is refused', (_, hex) => {
    expect(() => parsePublicKey(fromHex(hex))).toThrow(KeyError);
  });

  test('the base point is a usable public key', () => {
    expect(parsePublicKey(fromHex(`09${'00'.repeat(31)}`))).toBeTypeOf('string');
  });

  test('an all-zero private or preshared key is refused', () => {
    expect(() => parsePrivateKey(fromHex('00'.repeat(32)))).toThrow(KeyError);
    expect(() => parsePresharedKey(fromHex('00'.repeat(32)))).toThrow(KeyError);
  });

  test('a key has one spelling only, and the error never repeats what was given', () => {
    const { publicKey } = generateKeyPair();
    const spellings = [
      ` ${publicKey}`,
      `${publicKey}\n`,
      publicKey.slice(0, -1),
      `${publicKey}=`,
      `${publicKey.slice(0, 42)}B=`,
      publicKey.replace(/.$/, '\n='),
      `-${publicKey.slice(1, 43).replaceAll('+', '-')}_=`,
    ];
    for (const spelling of spellings) expect(() => parsePublicKey(spelling)).toThrow(KeyError);
    expect(() => parsePrivateKey('CANARY')).toThrow(/^(?!.*CANARY)/);
  });

  test('no other text is a key', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        expect(() => parsePublicKey(text)).toThrow(KeyError);
      }),
    );
  });
});

import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';

declare const brand: unique symbol;

/** A Curve25519 public key: canonical base64 of 32 bytes, no low-order point. Made by {@link parsePublicKey}. */
export type PublicKey = string & { readonly [brand]: 'PublicKey' };
/** A Curve25519 private key: canonical base64 of 32 bytes. A secret: never log it. */
export type PrivateKey = string & { readonly [brand]: 'PrivateKey' };
/** A preshared key: canonical base64 of 32 bytes, not all zero. A secret: never log it. */
export type PresharedKey = string & { readonly [brand]: 'PresharedKey' };

/** Thrown for text that is no usable key. The message never repeats the text: it may be half of a secret. */
export class KeyError extends Error {
  override readonly name = 'KeyError';
  readonly code = 'bad_key';
}

export interface KeyPair {
  readonly privateKey: PrivateKey;
  readonly publicKey: PublicKey;
}

/** A fresh key pair, the private key clamped as `wg genkey` does, so that hosts print back what was stored. */
export function generateKeyPair(): KeyPair {
  const bytes = randomBytes(32);
  bytes.writeUInt8(bytes.readUInt8(0) & 248, 0);
  bytes.writeUInt8((bytes.readUInt8(31) & 127) | 64, 31);
  const privateKey = bytes.toString('base64') as PrivateKey;
  return { privateKey, publicKey: derivePublicKey(privateKey) };
}

/** What `wg pubkey` answers. */
export function derivePublicKey(privateKey: PrivateKey): PublicKey {
  const bytes = decodeKey(privateKey, 'private');
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, bytes]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return spki.subarray(-32).toString('base64') as PublicKey;
}

/** What `wg genpsk` answers. */
export function generatePresharedKey(): PresharedKey {
  return randomBytes(32).toString('base64') as PresharedKey;
}

/**
 * Accepts exactly one spelling of a usable public key. Refused: other base64 spellings, keys not reduced modulo
 * 2^255 − 19 (a second spelling of the same point, which would defeat uniqueness), and low-order points, with which
 * every handshake has a known secret.
 * @throws KeyError
 */
export function parsePublicKey(text: string): PublicKey {
  const bytes = decodeKey(text, 'public');
  if (littleEndian(bytes) >= FIELD_PRIME) throw new KeyError('the public key is not a canonical point');
  if (LOW_ORDER_POINTS.has(bytes.toString('hex'))) throw new KeyError('the public key is a low-order point');
  return text as PublicKey;
}

/** @throws KeyError */
export function parsePrivateKey(text: string): PrivateKey {
  if (decodeKey(text, 'private').every((byte) => byte === 0)) throw new KeyError('the private key is all zero');
  return text as PrivateKey;
}

/** An all-zero key is refused: to WireGuard it means "no preshared key". @throws KeyError */
export function parsePresharedKey(text: string): PresharedKey {
  if (decodeKey(text, 'preshared').every((byte) => byte === 0)) throw new KeyError('the preshared key is all zero');
  return text as PresharedKey;
}

/** 43 base64 characters, the last of which carries four bits, and one `=`. */
const CANONICAL_KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const FIELD_PRIME = 2n ** 255n - 19n;

/** The canonical u-coordinates of order 1, 2, 4 and 8 on Curve25519 and its twist, little-endian. */
const LOW_ORDER_POINTS: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

function decodeKey(text: string, what: string): Buffer {
  if (typeof text !== 'string' || !CANONICAL_KEY.test(text)) {
    throw new KeyError(`a ${what} key is base64 of exactly 32 bytes`);
  }
  return Buffer.from(text, 'base64');
}

function littleEndian(bytes: Buffer): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

import { createCipheriv, createDecipheriv, createHash, createSecretKey, type KeyObject } from 'node:crypto';
import type { Random } from '../services.ts';
import { systemRandom } from './random.ts';

/** One key of the ring. `id` matches `[A-Za-z0-9_-]{1,32}`; `key` is exactly 32 bytes. */
export interface EncryptionKey {
  readonly id: string;
  readonly key: Uint8Array;
}

/** Where a sealed value lives. A value moved to another row or column does not open there. */
export interface SealContext {
  readonly column: `${string}.${string}`;
  readonly rowId: number;
}

/** Deliberately says nothing about why: wrong key, swapped row and damaged text look alike. */
export class SecretBoxError extends Error {
  constructor() {
    super('a sealed value cannot be opened');
    this.name = 'SecretBoxError';
  }
}

const VERSION = 'v1';
const KEY_BYTES = 32;
/** 96 bits is what GCM takes without another hashing pass; random nonces are safe for about 2^32 seals of one key. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID = /^[A-Za-z0-9_-]{1,32}$/;

interface RingKey {
  readonly id: string;
  readonly key: KeyObject;
}

interface SealedParts {
  readonly keyId: string;
  readonly nonce: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/**
 * Secrets at rest: AES-256-GCM under a ring of keys. The first key seals, every key opens.
 * A sealed text is `v1.<key id>.<nonce>.<ciphertext and tag>`, the last two as base64url.
 *
 * @example
 * ```ts
 * const box = new SecretBox([{ id: 'k1', key: randomBytes(32) }]);
 * const sealed = box.seal({ column: 'peers.private_key', rowId: 7 }, privateKey);
 * box.open({ column: 'peers.private_key', rowId: 7 }, sealed); // privateKey
 * ```
 */
export class SecretBox {
  readonly #primary: RingKey;
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #random: Random;

  /** @throws RangeError when the ring is empty, an id or a length is wrong, or two keys share an id */
  constructor(keys: readonly EncryptionKey[], random: Random = systemRandom) {
    const ring = keys.map(importKey);
    const [primary] = ring;
    if (primary === undefined) throw new RangeError('a secret box needs at least one key');
    if (new Set(ring.map(({ id }) => id)).size !== ring.length) throw new RangeError('two keys share an id');
    // Found by fingerprint as well: a key that was configured without an id keeps opening its values once it gets one.
    const aliases = keys.map(({ key }, index) => [keyFingerprint(key), (ring[index] ?? primary).key] as const);
    this.#primary = primary;
    this.#keys = new Map([...aliases, ...ring.map(({ id, key }) => [id, key] as const)]);
    this.#random = random;
  }

  /** Encrypts text for one column of one row. */
  seal(context: SealContext, plaintext: string): string {
    const { id, key } = this.#primary;
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(associatedData(context, id));
    const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${VERSION}.${id}.${Buffer.from(nonce).toString('base64url')}.${body.toString('base64url')}`;
  }

  /** @throws SecretBoxError for anything but a text sealed for this very column and row with a key of the ring */
  open(context: SealContext, sealed: string): string {
    const parts = parseSealed(sealed);
    const key = parts === undefined ? undefined : this.#keys.get(parts.keyId);
    if (parts === undefined || key === undefined) throw new SecretBoxError();
    try {
      return decrypt(key, parts, associatedData(context, parts.keyId));
    } catch {
      throw new SecretBoxError();
    }
  }

  /** Whether the text was sealed with another key than the first one, so that a rotation still has to seal it again. */
  isStale(sealed: string): boolean {
    return parseSealed(sealed)?.keyId !== this.#primary.id;
  }
}

/** The id of a key that was configured without one: 8 hex digits of a hash that tells nothing about the key. */
export function keyFingerprint(key: Uint8Array): string {
  return createHash('sha256').update('vpn-api key id').update(key).digest('hex').slice(0, 8);
}

function importKey({ id, key }: EncryptionKey): RingKey {
  if (!KEY_ID.test(id)) throw new RangeError('a key id is 1 to 32 letters, digits, "_" or "-"');
  if (key.length !== KEY_BYTES) throw new RangeError(`key ${id} is not ${KEY_BYTES} bytes long`);
  return { id, key: createSecretKey(key) };
}

function associatedData({ column, rowId }: SealContext, keyId: string): Buffer {
  if (!Number.isSafeInteger(rowId)) throw new RangeError('a row id must be an integer');
  return Buffer.from(`${column}:${rowId}:${keyId}`, 'utf8');
}

function decrypt(key: KeyObject, { nonce, ciphertext, tag }: SealedParts, aad: Buffer): string {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString('utf8');
}

function parseSealed(sealed: string): SealedParts | undefined {
  const [version, keyId, nonceText, bodyText, ...rest] = sealed.split('.');
  if (version !== VERSION || keyId === undefined || rest.length > 0) return undefined;
  const nonce = decode(nonceText);
  const body = decode(bodyText);
  if (nonce?.length !== NONCE_BYTES || body === undefined || body.length < TAG_BYTES) return undefined;
  return { keyId, nonce, ciphertext: body.subarray(0, -TAG_BYTES), tag: body.subarray(-TAG_BYTES) };
}

/** Only the one canonical spelling: Node's decoder would skip over foreign characters. */
function decode(text: string | undefined): Buffer | undefined {
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

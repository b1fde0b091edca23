import { createSecretKey, hash, type KeyObject } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { epochMs, type Instant, toInstant } from '../domain/instant.ts';
import type { Clock, Random } from '../services.ts';
import { newUuid, systemRandom } from './random.ts';

export type AccessTokenAlgorithm = 'HS256' | 'HS384' | 'HS512';

export interface AccessTokensOptions {
  /** `SECRET_KEY`, at least 32 bytes; its UTF-8 bytes are the HMAC key. */
  readonly secretKey: string;
  readonly algorithm: AccessTokenAlgorithm;
  /** How long a token lives. */
  readonly lifetimeSeconds: number;
  readonly clock: Pick<Clock, 'now'>;
  readonly random?: Random;
  /** Verified tokens that are remembered. */
  readonly cacheSize?: number;
}

/** Whom a token speaks for. */
export interface AccessClaims {
  readonly userId: number;
  /** Family of the session that issued it. */
  readonly sessionId: number;
  /** Must equal the user's current `token_version`, which the caller compares. */
  readonly tokenVersion: number;
}

export interface VerifiedAccessToken extends AccessClaims {
  readonly expiresAt: Instant;
}

export interface SignedAccessToken {
  readonly token: string;
  readonly expiresAt: Instant;
  readonly expiresInSeconds: number;
}

const ISSUER = 'vpn-api';
const AUDIENCE = 'vpn-api';
const TYPE = 'at+jwt';
/** Clocks of two instances may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;
const MIN_KEY_BYTES = 32;
/** Ours have about 330 characters; what is longer is not even decoded. */
const MAX_TOKEN_LENGTH = 2048;
/** The end of the year 9999, the last moment an `Instant` can say. */
const LAST_EPOCH_SECOND = 253_402_300_799;
/** One entry takes about 250 bytes. */
const CACHE_SIZE = 10_000;
const REQUIRED_CLAIMS = ['iss', 'aud', 'sub', 'sid', 'tv', 'jti', 'iat', 'exp'];
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/**
 * Signs and checks access tokens: HMAC JWTs of one fixed algorithm. Revocation is not known here; the caller compares
 * session and token version with the database on every request.
 */
export class AccessTokens {
  readonly #options: AccessTokensOptions;
  readonly #key: KeyObject;
  readonly #cache: VerifiedCache;

  /** @throws RangeError for a key under 32 bytes */
  constructor(options: AccessTokensOptions) {
    const bytes = Buffer.from(options.secretKey, 'utf8');
    if (bytes.length < MIN_KEY_BYTES) throw new RangeError(`SECRET_KEY must have at least ${MIN_KEY_BYTES} bytes`);
    this.#options = options;
    this.#key = createSecretKey(bytes);
    this.#cache = new VerifiedCache(options.cacheSize ?? CACHE_SIZE);
  }

  async sign({ userId, sessionId, tokenVersion }: AccessClaims): Promise<SignedAccessToken> {
    const { algorithm, clock, lifetimeSeconds, random } = this.#options;
    const issuedAt = Math.floor(epochMs(clock.now()) / 1000);
    const expiresAt = issuedAt + lifetimeSeconds;
    const token = await new SignJWT({ sid: sessionId, tv: tokenVersion })
      .setProtectedHeader({ alg: algorithm, typ: TYPE })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(String(userId))
      .setJti(newUuid(random ?? systemRandom))
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt)
      .sign(this.#key);
    return { token, expiresAt: toInstant(expiresAt * 1000), expiresInSeconds: lifetimeSeconds };
  }

  /** Undefined for everything but an unexpired token that this server signed as an access token. Never throws for a bad one. */
  async verify(token: string): Promise<VerifiedAccessToken | undefined> {
    if (token.length > MAX_TOKEN_LENGTH || !COMPACT_JWS.test(token)) return undefined;
    const now = this.#options.clock.now();
    const cacheKey = hash('sha256', token, 'base64');
    const known = this.#cache.get(cacheKey, now);
    if (known !== undefined) return known;
    const verified = await this.#verifySignature(token, now);
    if (verified !== undefined) this.#cache.add(cacheKey, verified);
    return verified;
  }

  async #verifySignature(token: string, now: Instant): Promise<VerifiedAccessToken | undefined> {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, this.#key, {
        algorithms: [this.#options.algorithm],
        issuer: ISSUER,
        audience: AUDIENCE,
        typ: TYPE,
        requiredClaims: REQUIRED_CLAIMS,
        maxTokenAge: this.#options.lifetimeSeconds,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        currentDate: new Date(epochMs(now)),
      });
      return hasOnlyOurHeader(protectedHeader) && isOurSpelling(token, payload) ? readClaims(payload) : undefined;
    } catch (error) {
      if (error instanceof errors.JOSEError || error instanceof TypeError) return undefined;
      throw error;
    }
  }
}

/** `kid`, `jku`, `jwk`, `x5u` and their like point at keys; we have one and name none. */
function hasOnlyOurHeader(header: object): boolean {
  return Object.keys(header).every((name) => name === 'alg' || name === 'typ');
}

/** Duplicated claims and numbers such as `1e3` vanish when JSON is parsed and printed again; `jose` prints as we do. */
function isOurSpelling(token: string, payload: JWTPayload): boolean {
  const [, encoded = ''] = token.split('.');
  return Buffer.from(encoded, 'base64url').toString('utf8') === JSON.stringify(payload);
}

function readClaims({ sub, sid, tv, jti, exp, aud }: JWTPayload): VerifiedAccessToken | undefined {
  if (aud !== AUDIENCE || typeof jti !== 'string' || jti === '') return undefined;
  if (typeof sub !== 'string' || !/^[1-9]\d{0,9}$/.test(sub)) return undefined;
  if (!isInteger(sid) || sid < 1 || !isInteger(tv) || tv < 0) return undefined;
  if (!isInteger(exp) || exp > LAST_EPOCH_SECOND) return undefined;
  return Object.freeze({
    userId: Number(sub),
    sessionId: sid,
    tokenVersion: tv,
    expiresAt: toInstant(exp * 1000),
  });
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/** Tokens that were verified before, by hash; the oldest is forgotten first, and none is served past its expiry. */
class VerifiedCache {
  readonly #entries = new Map<string, VerifiedAccessToken>();
  readonly #maxEntries: number;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  get(key: string, now: Instant): VerifiedAccessToken | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || now < entry.expiresAt) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  add(key: string, entry: VerifiedAccessToken): void {
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.#maxEntries) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}

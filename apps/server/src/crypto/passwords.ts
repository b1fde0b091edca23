import { createHmac, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { availableParallelism } from 'node:os';
import * as bcrypt from '@node-rs/bcrypt';
import { DomainError, invalidField } from '../domain/errors.ts';
import { isCommonPassword } from './common-passwords.ts';
import { WorkQueue } from './work-queue.ts';

export interface PasswordsOptions {
  /** `SECRET_KEY`. The pepper is derived from it: with another key no stored password fits any more. */
  readonly secretKey: string;
  /** bcrypt's cost: each step doubles the time of a guess and of a login. */
  readonly cost: number;
  /** Hashes at once; by default one core less than the machine has. */
  readonly maxRunning?: number;
  /** Calls that wait for their turn. */
  readonly maxWaiting?: number;
}

/** Names how the part behind it was made, so that another scheme can stand beside this one. */
const PREFIX = 'hs256-bcrypt:';
const MIN_CHARACTERS = 8;
/** Far beyond any passphrase, and small enough that refusing and hashing cost nothing worth attacking. */
const MAX_BYTES = 1024;
/** At cost 12 a hash takes about 0.25 s of one core: a longer queue would only answer callers that have gone away. */
const MAX_WAITING = 32;
/** About the time in which a full queue drains on two cores. */
const RETRY_AFTER_SECONDS = 5;
/** Salt and digest of a bcrypt hash that nobody's password is compared with for its result, only for its time. */
const DUMMY_SALT_AND_DIGEST = 'DCbmMvovtMKBZddilOVDDu8PNZZSsrKQpN5RKaRw7nAwK1IGpk8Ca';

/**
 * Password hashes: bcrypt over base64(HMAC-SHA256(pepper, password)). The 44 characters that reach bcrypt hold no NUL and
 * stay under its 72 bytes, so every character of a long password counts.
 */
export class Passwords {
  readonly #pepper: KeyObject;
  readonly #cost: number;
  readonly #dummy: string;
  readonly #queue: WorkQueue;

  constructor({ secretKey, cost, maxRunning, maxWaiting }: PasswordsOptions) {
    this.#pepper = derivePepper(secretKey);
    this.#cost = cost;
    this.#dummy = `$2b$${String(cost).padStart(2, '0')}$${DUMMY_SALT_AND_DIGEST}`;
    this.#queue = new WorkQueue({
      // bcrypt shares libuv's threads with token checks and files: one core stays free for them.
      maxRunning: maxRunning ?? Math.max(1, availableParallelism() - 1),
      maxWaiting: maxWaiting ?? MAX_WAITING,
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    });
  }

  /** Calls that wait for a free place, for the metrics. */
  get waiting(): number {
    return this.#queue.waiting;
  }

  /**
   * Hashes a password that passed `assertAcceptable`.
   * @throws DomainError `overloaded` when too many hashes are wanted at once
   */
  async hash(password: string): Promise<string> {
    if (!isHashable(password)) throw new RangeError('the password was not checked before hashing');
    return this.#queue.run(async () => PREFIX + (await bcrypt.hash(this.#digest(password), { cost: this.#cost })));
  }

  /**
   * Whether the password belongs to the stored hash. Without a hash (nobody by that name, or an account without a
   * password) the same work is done and the answer is no, so that the time tells nothing.
   * @throws DomainError `overloaded` when too many hashes are wanted at once
   */
  async verify(hash: string | null | undefined, password: string): Promise<boolean> {
    if (!isHashable(password)) return false;
    const stored = hash?.startsWith(PREFIX) ? hash.slice(PREFIX.length) : undefined;
    const matches = await this.#queue.run(() => bcrypt.verify(this.#digest(password), stored ?? this.#dummy));
    return matches && stored !== undefined;
  }

  /** Whether a hash was made with another cost or scheme and should be made anew at the next login. */
  isOutdated(hash: string): boolean {
    const cost = /^\$2b\$(\d\d)\$/.exec(hash.slice(PREFIX.length))?.[1];
    return !hash.startsWith(PREFIX) || Number(cost) !== this.#cost;
  }

  #digest(password: string): string {
    return createHmac('sha256', this.#pepper).update(password, 'utf8').digest('base64');
  }
}

/**
 * The rules for a new password: 8 characters or more, at most 1024 bytes, well-formed Unicode, not among the first
 * guesses and not the owner's own address.
 * @throws DomainError `password_too_short`, `password_too_common`, `validation_failed`
 */
export function assertAcceptablePassword(password: string, email?: string | null): void {
  if (!password.isWellFormed()) throw invalidField('password', 'must be well-formed Unicode');
  if (Buffer.byteLength(password) > MAX_BYTES) throw invalidField('password', `must be at most ${MAX_BYTES} bytes`);
  if ([...password].length < MIN_CHARACTERS) throw new DomainError('password_too_short');
  if (isCommonPassword(password) || isOwnAddress(password, email)) throw new DomainError('password_too_common');
}

function isOwnAddress(password: string, email: string | null | undefined): boolean {
  if (!email) return false;
  const address = email.toLowerCase();
  const local = address.slice(0, Math.max(0, address.lastIndexOf('@')));
  return [address, local].includes(password.toLowerCase());
}

/** Lone surrogates all become U+FFFD in UTF-8: two different passwords would be one. */
function isHashable(password: string): boolean {
  return password.isWellFormed() && Buffer.byteLength(password) <= MAX_BYTES;
}

/** A key of its own, so that neither a leaked pepper signs tokens nor the other way round. */
function derivePepper(secretKey: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', secretKey, '', 'vpn-api password pepper v1', 32)));
}

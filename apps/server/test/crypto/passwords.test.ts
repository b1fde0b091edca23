import { describe, expect, test } from 'vitest';
import { assertAcceptablePassword, Passwords } from '../../src/crypto/passwords.ts';
import { WorkQueue } from '../../src/crypto/work-queue.ts';
import { DomainError } from '../../src/domain/errors.ts';

/** The lowest cost bcrypt knows: the guarantees do not depend on it. */
const COST = 4;
const passwords = new Passwords({ secretKey: 'a secret key of the tests, 32 bytes', cost: COST, maxWaiting: 500 });

function refusal(password: string, email?: string | null): DomainError | undefined {
  try {
    assertAcceptablePassword(password, email);
    return undefined;
  } catch (error) {
    if (error instanceof DomainError) return error;
    throw error;
  }
}

describe('hashes', () => {
  test('the right password fits and another does not', async () => {
    const hash = await passwords.hash('correct horse');
    expect(await passwords.verify(hash, 'correct horse')).toBe(true);
    expect(await passwords.verify(hash, 'correct horsf')).toBe(false);
    expect(await passwords.verify(hash, '')).toBe(false);
  });

  test.each([
    ['the 73rd byte', 'a'.repeat(72), 'X', 'Y'],
    ['the 64th emoji', '😀'.repeat(63), '😀', '😁'],
    ['the last of 1024 bytes', 'a'.repeat(1023), 'X', 'Y'],
    ['what follows a NUL', 'secret\0', 'X', 'Y'],
    ['composed or decomposed letters', 'pässword', 'é', 'e\u0301'],
  ])('%s counts', async (_name, start, ending, other) => {
    const hash = await passwords.hash(start + ending);
    expect(await passwords.verify(hash, start + ending)).toBe(true);
    expect(await passwords.verify(hash, start + other)).toBe(false);
  });

  test('a leaked table is useless without SECRET_KEY', async () => {
    const hash = await passwords.hash('correct horse');
    const others = new Passwords({ secretKey: 'another secret key of thirty-two bytes', cost: COST });
    expect(await others.verify(hash, 'correct horse')).toBe(false);
  });

  test('the scheme is written in front of the hash', async () => {
    expect(await passwords.hash('correct horse')).toMatch(/^hs256-bcrypt:\$2b\$04\$[./A-Za-z0-9]{53}$/);
  });

  test('a hash of another cost or scheme is known to be outdated', async () => {
    const hash = await passwords.hash('correct horse');
    expect(passwords.isOutdated(hash)).toBe(false);
    expect(passwords.isOutdated(hash.replace('$04$', '$05$'))).toBe(true);
    expect(passwords.isOutdated(hash.replace('hs256-bcrypt:', ''))).toBe(true);
  });

  test.each([null, undefined, '', 'hs256-bcrypt:', 'hs256-bcrypt:$2b$04$short', '$2b$04$plain', 'garbage'])(
    'nothing fits the stored hash %j',
    async (hash) => {
      expect(await passwords.verify(hash, 'correct horse')).toBe(false);
      expect(await passwords.verify(hash, '')).toBe(false);
    },
  );

  test('a password that could never be stored is refused without hashing, for known and unknown alike', async () => {
    const busy = new Passwords({ secretKey: 'x', cost: COST, maxRunning: 1, maxWaiting: 0 });
    const running = busy.hash('correct horse');
    expect(await busy.verify(await passwords.hash('correct horse'), 'a'.repeat(4096))).toBe(false);
    expect(await busy.verify(null, 'a'.repeat(4096))).toBe(false);
    expect(await busy.verify(null, '\ud800')).toBe(false);
    await running;
    await expect(busy.hash('\ud800 lone')).rejects.toThrow(RangeError);
  });

  test('an unknown user costs the same work as a known one', async () => {
    const slower = new Passwords({ secretKey: 'x', cost: 8 });
    const hash = await slower.hash('correct horse');
    const time = async (stored: string | null): Promise<number> => {
      const started = performance.now();
      await slower.verify(stored, 'wrong horse');
      return performance.now() - started;
    };
    const known: number[] = [];
    const unknown: number[] = [];
    for (let round = 0; round < 15; round += 1) {
      known.push(await time(hash));
      unknown.push(await time(null));
    }
    const median = (times: number[]) => times.sort((a, b) => a - b)[7] ?? 0;
    const ratio = median(unknown) / median(known);
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(2);
  });
});

describe('the queue', () => {
  test('beyond its length a caller is told to come back, and later callers get their turn', async () => {
    const few = new Passwords({ secretKey: 'x', cost: COST, maxRunning: 1, maxWaiting: 2 });
    const calls = Array.from({ length: 5 }, () => few.hash('correct horse'));
    const results = await Promise.allSettled(calls);
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
    ]);
    const [error] = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect(error).toMatchObject({ code: 'overloaded', retryAfterSeconds: 5 });
    expect(few.waiting).toBe(0);
    expect(await few.verify(null, 'correct horse')).toBe(false);
  });

  test('never more jobs run than allowed, in the order they came, and a failed job frees its place', async () => {
    const queue = new WorkQueue({ maxRunning: 2, maxWaiting: 100, retryAfterSeconds: 1 });
    const order: number[] = [];
    let running = 0;
    let most = 0;
    const job = async (index: number) => {
      running += 1;
      most = Math.max(most, running);
      order.push(index);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (index % 3 === 0) throw new Error('failed');
    };
    await Promise.allSettled(Array.from({ length: 50 }, (_, index) => queue.run(() => job(index))));
    expect(most).toBe(2);
    expect(order).toEqual(Array.from({ length: 50 }, (_, index) => index));
    expect([queue.running, queue.waiting]).toEqual([0, 0]);
  });
});

describe('rules for a new password', () => {
  test.each(['Password123!', 'correct horse', '😀😁😂🤣😃😄😅😆', '        x', 'a'.repeat(64), 'p'.repeat(1024)])(
    '%s is accepted',
    (password) => {
      expect(refusal(password, 'alice@example.com')).toBeUndefined();
    },
  );

  test.each(['', 'short', '1234567', '😀😁😂🤣'])('%j is too short', (password) => {
    expect(refusal(password)?.code).toBe('password_too_short');
  });

  test.each(['password', 'Password', 'PASSWORD123', '12345678', 'qwertyuiop', 'wireguard'])(
    '%s is too common',
    (password) => {
      expect(refusal(password)?.code).toBe('password_too_common');
    },
  );

  test("the owner's own address is too easy to guess", () => {
    expect(refusal('Alice.Smith', 'alice.smith@example.com')?.code).toBe('password_too_common');
    expect(refusal('alice.smith@example.com', 'Alice.Smith@example.com')?.code).toBe('password_too_common');
    expect(refusal('alice.smith', 'bob@example.com')).toBeUndefined();
    expect(refusal('alice.smith', null)).toBeUndefined();
  });

  test.each([
    ['more than 1024 bytes', 'a'.repeat(1025)],
    ['more than 1024 bytes in fewer characters', '😀'.repeat(257)],
    ['a lone surrogate', 'password \ud800'],
  ])('%s is refused as a field', (_name, password) => {
    const error = refusal(password);
    expect(error).toMatchObject({ code: 'validation_failed', issues: [{ path: 'password' }] });
    expect(JSON.stringify(error?.issues)).not.toContain(password.slice(0, 9));
  });
});

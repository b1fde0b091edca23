import { createHmac, generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { beforeEach, describe, expect, test } from 'vitest';
import { AccessTokens } from '../../src/crypto/access-tokens.ts';
import { addSeconds, epochMs, type Instant, toInstant } from '../../src/domain/instant.ts';

const SECRET_KEY = 'a secret key of the tests with more than 64 bytes, so that HS512 has what it wants';
const START = toInstant(Date.parse('2026-11-22T12:00:00Z'));
const NOW = epochMs(START) / 1000;
const LIFETIME = 3600;
const person = { userId: 17, sessionId: 5, tokenVersion: 2 };

let now: Instant;
const clock = { now: () => now };

beforeEach(() => {
  now = START;
});

function makeTokens(options: Partial<ConstructorParameters<typeof AccessTokens>[0]> = {}): AccessTokens {
  return new AccessTokens({ secretKey: SECRET_KEY, algorithm: 'HS256', lifetimeSeconds: LIFETIME, clock, ...options });
}

const goodHeader = { alg: 'HS256', typ: 'at+jwt' };
const goodClaims = {
  sid: 5,
  tv: 2,
  iss: 'vpn-api',
  aud: 'vpn-api',
  sub: '17',
  jti: 'e7c2',
  iat: NOW,
  exp: NOW + LIFETIME,
};

const encode = (text: string) => Buffer.from(text).toString('base64url');

/** Signs any text as a JWT by hand, so that what no library would make can be tried. */
function forge(header: object | string, payload: object | string, secret = SECRET_KEY, hmac = 'sha256'): string {
  const text = (part: object | string) => encode(typeof part === 'string' ? part : JSON.stringify(part));
  const signed = `${text(header)}.${text(payload)}`;
  return `${signed}.${createHmac(hmac, secret).update(signed).digest('base64url')}`;
}

const without = (name: keyof typeof goodClaims) =>
  Object.fromEntries(Object.entries(goodClaims).filter(([key]) => key !== name));

describe('good tokens', () => {
  test('a signed token says whom it speaks for and when it ends', async () => {
    const { token, expiresAt, expiresInSeconds } = await makeTokens().sign(person);
    expect(await makeTokens().verify(token)).toEqual({ ...person, expiresAt: '2026-11-22T13:00:00.000Z' });
    expect([expiresAt, expiresInSeconds]).toEqual(['2026-11-22T13:00:00.000Z', LIFETIME]);
  });

  test('it carries the documented header and claims', async () => {
    const { token } = await makeTokens().sign(person);
    const [header, payload] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString());
    expect(JSON.parse(header ?? '')).toEqual(goodHeader);
    expect(JSON.parse(payload ?? '')).toEqual({ ...goodClaims, jti: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  });

  test('no two tokens are alike', async () => {
    const tokens = makeTokens();
    expect((await tokens.sign(person)).token).not.toBe((await tokens.sign(person)).token);
  });

  test('a token made by hand with exactly these parts is accepted: the refusals below have one reason each', async () => {
    expect(await makeTokens().verify(forge(goodHeader, goodClaims))).toMatchObject(person);
  });

  test.each(['HS256', 'HS384', 'HS512'] as const)(
    '%s signs and verifies, and accepts no sibling',
    async (algorithm) => {
      const { token } = await makeTokens({ algorithm }).sign(person);
      for (const other of ['HS256', 'HS384', 'HS512'] as const) {
        const verified = await makeTokens({ algorithm: other }).verify(token);
        expect(verified !== undefined).toBe(other === algorithm);
      }
    },
  );
});

describe('bad tokens', () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const unsigned = (alg: string) =>
    `${encode(JSON.stringify({ ...goodHeader, alg }))}.${encode(JSON.stringify(goodClaims))}.`;
  const good = forge(goodHeader, goodClaims);
  const claims = (changes: object) => forge(goodHeader, { ...goodClaims, ...changes });
  const header = (changes: object) => forge({ ...goodHeader, ...changes }, goodClaims);

  test.each([
    ['alg none', unsigned('none')],
    ['alg None', unsigned('None')],
    ['alg nOnE', unsigned('nOnE')],
    ['alg none with a signature', header({ alg: 'none' })],
    ['HS512 with the right key', forge({ ...goodHeader, alg: 'HS512' }, goodClaims, SECRET_KEY, 'sha512')],
    ['RS256 with a public key as secret', forge({ ...goodHeader, alg: 'RS256' }, goodClaims, pem)],
    ['another key', forge(goodHeader, goodClaims, `${SECRET_KEY}!`)],
    ['no exp', forge(goodHeader, without('exp'))],
    ['exp as a string', claims({ exp: String(NOW + 60) })],
    ['exp as a fraction', claims({ exp: NOW + 60.5 })],
    ['exp beyond all numbers', forge(goodHeader, JSON.stringify(goodClaims).replace(/"exp":\d+/, '"exp":1e999'))],
    ['exp beyond all calendars', claims({ exp: Number.MAX_SAFE_INTEGER })],
    ['expired', claims({ iat: NOW - LIFETIME, exp: NOW - 6 })],
    ['not yet valid', claims({ nbf: NOW + 60 })],
    ['issued in the future', claims({ iat: NOW + 60, exp: NOW + 120 })],
    ['issued longer ago than a token lives', claims({ iat: NOW - LIFETIME - 6, exp: NOW + 60 })],
    ['no iat', forge(goodHeader, without('iat'))],
    ['no jti', forge(goodHeader, without('jti'))],
    ['an empty jti', claims({ jti: '' })],
    ['another issuer', claims({ iss: 'vpn-apis' })],
    ['another audience', claims({ aud: 'admin' })],
    ['several audiences', claims({ aud: ['vpn-api', 'admin'] })],
    ['no type', forge({ alg: 'HS256' }, goodClaims)],
    ['type JWT', header({ typ: 'JWT' })],
    ['a refresh token', 'k7Nn0kq1Tg2oYb0qkE3vT8y2mS9c4d5e6f7g8h9i0jA'],
    ['a kid that is a path', header({ kid: '../../dev/null' })],
    ['a kid that is SQL', header({ kid: "' or 1=1 --" })],
    ['a kid that is a URL', header({ kid: 'https://evil.example/k' })],
    ['jku', header({ jku: 'https://evil.example/jwks.json' })],
    ['x5u', header({ x5u: 'https://evil.example/cert' })],
    ['jwk', header({ jwk: { kty: 'oct', k: encode('x'.repeat(32)) } })],
    ['crit', header({ crit: ['exp'] })],
    ['unencoded payload', header({ b64: false, crit: ['b64'] })],
    ['two parts', good.split('.').slice(0, 2).join('.')],
    ['three parts, one empty', `${good.split('.').slice(0, 2).join('.')}.`],
    ['five parts', `${good}.a.b`],
    ['a megabyte', `${good.slice(0, 40)}${'A'.repeat(1_048_576)}`],
    ['padding at its end', `${good}=`],
    ['a line end', `${good}\n`],
    ['a space in front', ` ${good}`],
    ['a claim twice', forge(goodHeader, JSON.stringify(goodClaims).replace('{', '{"sub":"1",'))],
    ['sub as a number', claims({ sub: 17 })],
    ['sub that is an e-mail', claims({ sub: 'alice@example.com' })],
    ['sub with a leading zero', claims({ sub: '017' })],
    ['sub zero', claims({ sub: '0' })],
    ['no sub', forge(goodHeader, without('sub'))],
    ['no session', forge(goodHeader, without('sid'))],
    ['session as a string', claims({ sid: '5' })],
    ['no token version', forge(goodHeader, without('tv'))],
    ['a fractional token version', claims({ tv: 2.5 })],
    ['a payload that is an array', forge(goodHeader, '[]')],
    ['a payload that is null', forge(goodHeader, 'null')],
    ['a payload that is no JSON', forge(goodHeader, '{')],
    ['a header that is no JSON', forge('{', goodClaims)],
    ['nothing', ''],
    ['dots', '..'],
  ])('%s is refused without an error', async (_name, token) => {
    expect(await makeTokens().verify(token)).toBeUndefined();
  });

  test('every changed character of the signed part or the signature is noticed', async () => {
    const tokens = makeTokens();
    const signatureStart = good.lastIndexOf('.') + 1;
    for (let at = 0; at < good.length - 1; at += 7) {
      if (good[at] === '.') continue;
      const changed = `${good.slice(0, at)}${good[at] === 'A' ? 'B' : 'A'}${good.slice(at + 1)}`;
      expect(await tokens.verify(changed), `${at} of ${signatureStart}`).toBeUndefined();
    }
  });

  test('a token of another library with our key but other claims is refused', async () => {
    const token = await new SignJWT({ role: 'admin' })
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject('alice@example.com')
      .setExpirationTime(NOW + 60)
      .sign(Buffer.from(SECRET_KEY));
    expect(await makeTokens().verify(token)).toBeUndefined();
  });
});

describe('time', () => {
  test('a clock that is 5 s off is tolerated, on a first look and on a remembered token alike', async () => {
    const tokens = makeTokens();
    const { token } = await tokens.sign(person);
    expect(await tokens.verify(token)).toBeDefined();
    now = addSeconds(START, LIFETIME + 4);
    expect(await tokens.verify(token)).toBeDefined();
    expect(await makeTokens().verify(token)).toBeDefined();
    now = addSeconds(START, LIFETIME + 6);
    expect(await tokens.verify(token)).toBeUndefined();
    expect(await makeTokens().verify(token)).toBeUndefined();
  });

  test('a token from an instance whose clock is 4 s ahead works at once', async () => {
    now = addSeconds(START, 4);
    const { token } = await makeTokens().sign(person);
    now = START;
    expect(await makeTokens().verify(token)).toBeDefined();
  });
});

describe('remembered tokens', () => {
  test('a remembered token is answered without looking at the signature again', async () => {
    const tokens = makeTokens();
    const { token } = await tokens.sign(person);
    const first = await tokens.verify(token);
    expect(await tokens.verify(token)).toBe(first);
  });

  test('memory is bounded: the oldest is checked anew, the newest is remembered', async () => {
    const tokens = makeTokens({ cacheSize: 2 });
    const signed = await Promise.all([1, 2, 3].map((userId) => tokens.sign({ ...person, userId })));
    const [first, , third] = signed.map(({ token }) => token);
    const seen = [];
    for (const { token } of signed) seen.push(await tokens.verify(token));
    expect(await tokens.verify(third ?? '')).toBe(seen[2]);
    const again = await tokens.verify(first ?? '');
    expect(again).toEqual(seen[0]);
    expect(again).not.toBe(seen[0]);
  });

  test('a remembered answer cannot be changed by who received it', async () => {
    const tokens = makeTokens();
    const { token } = await tokens.sign(person);
    const verified = await tokens.verify(token);
    expect(() => Object.assign(verified ?? {}, { userId: 1 })).toThrow(TypeError);
  });
});

test('a key under 32 bytes is refused', () => {
  expect(() => makeTokens({ secretKey: 'x'.repeat(31) })).toThrow('SECRET_KEY');
});

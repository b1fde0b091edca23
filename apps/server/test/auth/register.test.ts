import { countUsers, openStore } from '@vpn-api/db';
import { engines, openTestStore } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { Passwords } from '../../src/crypto/passwords.ts';
import { registerUser } from '../../src/ops/register-user.ts';
import { ManualClock } from '../manual-clock.ts';
import { codeFrom, PASSWORD, problemFrom, race, START, World } from './world.ts';

describe.each(engines)('registration on %s', (engine) => {
  test('a new account is active, is no admin and shows no secrets', async () => {
    await using world = await World.open(engine);
    expect(await world.as().auth.register({ email: 'alice@example.com', password: PASSWORD })).toEqual({
      id: 1,
      email: 'alice@example.com',
      status: 'active',
      is_admin: false,
      email_verified: false,
      telegram_id: null,
      created_at: START,
    });
  });

  test('D3: registering an existing e-mail gives no token and leaves the account as it was', async () => {
    await using world = await World.open(engine);
    const alice = await world.person('alice@example.com');
    const before = await world.row(alice.id);
    const problem = await problemFrom(
      world.as().auth.register({ email: 'alice@example.com', password: 'another-password' }),
    );
    expect(problem).toMatchObject({ status: 409, code: 'email_taken', detail: 'Email already registered' });
    expect(JSON.stringify(problem)).not.toContain('token');
    expect(await world.row(alice.id)).toEqual(before);
  });

  test('D3: an account that a bot made with an e-mail cannot be taken over by registering it', async () => {
    await using world = await World.open(engine);
    const bot = await world.bot(await world.admin(), ['users:write']);
    await bot.user.ensure({ email: 'customer@example.com' });
    const again = world.as().auth.register({ email: 'customer@example.com', password: PASSWORD });
    expect(await codeFrom(again)).toBe('email_taken');
    const login = world.as().auth.login({ email: 'customer@example.com', password: PASSWORD });
    expect(await codeFrom(login)).toBe('invalid_credentials');
  });

  test('D4: a blocked user does not unblock himself by registering again', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person('alice@example.com');
    await admin.api.user.block({ id: alice.id });
    expect(await codeFrom(world.as().auth.register({ email: 'alice@example.com', password: PASSWORD }))).toBe(
      'email_taken',
    );
    expect((await world.row(alice.id)).status).toBe('blocked');
  });

  test('D11: two spellings of one address are one account', async () => {
    await using world = await World.open(engine);
    await world.person('alice@example.com');
    for (const email of ['Alice@example.com', 'ALICE@EXAMPLE.COM', ' alice@Example.com ']) {
      expect(await codeFrom(world.as().auth.register({ email, password: PASSWORD }))).toBe('email_taken');
      expect(await world.as().auth.login({ email, password: PASSWORD })).toHaveProperty('access_token');
    }
  });

  test.each([
    '\u212Aate@example.com',
    'ali\uFB01ce@example.com',
    'a\u0000b@example.com',
    'a\r\nBcc: b@example.com',
    '"a b"@example.com',
    'alice@example',
    'alice',
    `${'a'.repeat(65)}@example.com`,
  ])('an address that could be mistaken for another or breaks a header is refused: %j', async (email) => {
    await using world = await World.open(engine);
    expect(await codeFrom(world.as().auth.register({ email, password: PASSWORD }))).toBe('validation_failed');
  });

  test('50 registrations of one e-mail at once make one user; the others hear that it is taken', async () => {
    await using world = await World.open(engine);
    const { answers, codes } = await race(50, () =>
      world.as().auth.register({ email: 'alice@example.com', password: PASSWORD }),
    );
    expect(answers).toHaveLength(1);
    expect(new Set(codes)).toEqual(new Set(['email_taken']));
    expect(await countUsers(world.store)).toBe(1);
  });

  test('two instances that register one e-mail at once make one user', async () => {
    await using first = await openTestStore(engine, { file: true });
    await using second = await openStore(first.url);
    const clock = new ManualClock(START);
    const passwords = new Passwords({ secretKey: 'a key', cost: 4 });
    const { answers, codes } = await race(2, (index) =>
      registerUser(
        { store: index === 0 ? first : second, clock, passwords, outbox: { wake: () => {} } },
        { email: 'alice@example.com', password: PASSWORD },
      ),
    );
    expect(answers).toHaveLength(1);
    expect(codes).toEqual(['email_taken']);
  });

  test('D9: every character of a long password counts, also beyond 72 bytes', async () => {
    await using world = await World.open(engine);
    const password = `${'a'.repeat(72)}X`;
    await world.as().auth.register({ email: 'long@example.com', password });
    expect(await world.as().auth.login({ email: 'long@example.com', password })).toHaveProperty('access_token');
    for (const wrong of [`${'a'.repeat(72)}Y`, 'a'.repeat(72)]) {
      const login = world.as().auth.login({ email: 'long@example.com', password: wrong });
      expect(await codeFrom(login)).toBe('invalid_credentials');
    }
  });

  test.each([
    ['seven77', 'password_too_short', 'Password must be at least 8 characters'],
    ['password', 'password_too_common', 'This password is too easy to guess'],
    ['alice@example.com', 'password_too_common', 'This password is too easy to guess'],
  ])('the password %j is refused', async (password, code, detail) => {
    await using world = await World.open(engine);
    const problem = await problemFrom(world.as().auth.register({ email: 'alice@example.com', password }));
    expect(problem).toMatchObject({ status: 400, code, detail });
  });

  test('D13: a refusal never repeats what was submitted', async () => {
    await using world = await World.open(engine);
    const secret = 'my-own-secret-password';
    const inputs = [
      { email: 'not an address', password: secret },
      { email: 'a@example.com', password: `${secret}${'x'.repeat(2000)}` },
      { email: 'a@example.com', password: secret, unknown: secret },
      { email: 'a@example.com', password: [secret] },
      { email: { is: secret }, password: secret },
    ];
    for (const input of inputs) {
      const problem = await problemFrom(world.as().auth.register(input as never));
      expect(problem.status).toBe(400);
      expect(JSON.stringify(problem)).not.toContain(secret);
    }
    expect(world.logs.join()).not.toContain(secret);
  });

  test('columns of the table cannot be set from outside', async () => {
    await using world = await World.open(engine);
    for (const extra of [{ role: 'admin' }, { is_admin: true }, { status: 'active' }, { email_verified_at: START }]) {
      const call = world.as().auth.register({ email: 'a@example.com', password: PASSWORD, ...extra } as never);
      expect(await codeFrom(call)).toBe('validation_failed');
    }
  });
});

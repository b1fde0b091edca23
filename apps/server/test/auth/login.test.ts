import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { Passwords } from '../../src/crypto/passwords.ts';
import { codeFrom, PASSWORD, problemFrom, World } from './world.ts';

/** A clock would tell the same only on an idle machine; that a hash for nobody takes its time is proven with the hashing. */
class CountingPasswords extends Passwords {
  hashes = 0;

  override hash(password: string): Promise<string> {
    this.hashes += 1;
    return super.hash(password);
  }

  override verify(hash: string | null | undefined, password: string): Promise<boolean> {
    this.hashes += 1;
    return super.verify(hash, password);
  }
}

describe.each(engines)('login on %s', (engine) => {
  test('answers tokens that work at once, with their lifetimes in seconds', async () => {
    await using world = await World.open(engine);
    const { api, id, email, ...rest } = await world.person();
    expect(rest).toEqual({
      access_token: expect.any(String),
      token_type: 'bearer',
      expires_in: 3600,
      refresh_token: expect.any(String),
      refresh_expires_in: 30 * 86_400,
    });
    expect(await api.auth.me()).toMatchObject({ id, email });
  });

  test('D12: an access token ends after its hour, and its session after its month', async () => {
    await using world = await World.open(engine);
    const { api, refresh_token } = await world.person();
    world.clock.advance(3600 + 60);
    expect(await problemFrom(api.auth.me())).toMatchObject({ status: 401, detail: 'Could not validate credentials' });
    world.clock.advance(30 * 86_400);
    expect(await codeFrom(world.as().auth.refresh({ refresh_token }))).toBe('invalid_refresh_token');
  });

  test('unknown user, wrong password and blocked user get the same answer', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const blocked = await world.person('blocked@example.com');
    await world.person('alice@example.com');
    await admin.api.user.block({ id: blocked.id });
    const attempts = [
      { email: 'nobody@example.com', password: PASSWORD },
      { email: 'alice@example.com', password: 'wrong-password' },
      { email: 'blocked@example.com', password: PASSWORD },
      { email: 'alice@example.com', password: '' },
    ];
    const problems = await Promise.all(attempts.map((attempt) => problemFrom(world.as().auth.login(attempt))));
    expect(problems[0]).toMatchObject({ status: 401, code: 'invalid_credentials', detail: 'Invalid credentials' });
    for (const problem of problems) expect(problem).toEqual(problems[0]);
  });

  test('D10: unknown user, wrong password and blocked user cost one hash each', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const blocked = await world.person('blocked@example.com');
    await world.person('alice@example.com');
    await admin.api.user.block({ id: blocked.id });
    const passwords = new CountingPasswords({ secretKey: world.services.config.secrets.secretKey, cost: 4 });
    Object.assign(world.services, { passwords });
    for (const email of ['alice@example.com', 'nobody@example.com', 'blocked@example.com']) {
      passwords.hashes = 0;
      await codeFrom(world.as().auth.login({ email, password: 'wrong-password' }));
      expect(passwords.hashes, email).toBe(1);
    }
  });

  test('D8: an account without a password cannot be entered with an empty one', async () => {
    await using world = await World.open(engine);
    const bot = await world.bot(await world.admin(), ['users:write']);
    await bot.user.ensure({ email: 'customer@example.com' });
    for (const password of ['', ' ', 'null', 'undefined']) {
      const login = world.as().auth.login({ email: 'customer@example.com', password });
      expect(await codeFrom(login)).toBe('invalid_credentials');
    }
  });

  test('D10: guesses at one account from many addresses are slowed, and its owner still gets in', async () => {
    await using world = await World.open(engine, { env: { RATE_LIMITS: 'auth=10/min' } });
    const home = { ip: '198.51.100.1' };
    await world.as(undefined, home).auth.register({ email: 'alice@example.com', password: PASSWORD });
    const right = { email: 'alice@example.com', password: PASSWORD };
    await world.as(undefined, home).auth.login(right);
    const codes: string[] = [];
    for (let guess = 0; guess < 50; guess += 1) {
      const attacker = world.as(undefined, { ip: `192.0.2.${guess}` });
      codes.push(await codeFrom(attacker.auth.login({ email: 'alice@example.com', password: `guess-${guess}` })));
    }
    expect(codes.filter((code) => code === 'invalid_credentials').length).toBeLessThanOrEqual(10);
    expect(codes.filter((code) => code === 'rate_limited').length).toBeGreaterThanOrEqual(40);
    expect(await world.as(undefined, home).auth.login(right)).toHaveProperty('access_token');
    const elsewhere = world.as(undefined, { ip: '198.51.100.99' });
    expect(await problemFrom(elsewhere.auth.login(right))).toMatchObject({ status: 429, code: 'rate_limited' });
    world.clock.advance(60);
    expect(await elsewhere.auth.login(right)).toHaveProperty('access_token');
  });

  test('D10: a limited account says when to come back, whether it exists or not', async () => {
    await using world = await World.open(engine, { env: { RATE_LIMITS: 'auth=3/min' } });
    await world.as().auth.register({ email: 'alice@example.com', password: PASSWORD });
    const limitedAfter = async (email: string) => {
      for (let count = 0; ; count += 1) {
        const context = world.as(undefined, { ip: `192.0.2.${count}` });
        if ((await codeFrom(context.auth.login({ email, password: 'wrong-password' }))) === 'rate_limited')
          return count;
      }
    };
    expect(await limitedAfter('alice@example.com')).toBe(3);
    expect(await limitedAfter('nobody@example.com')).toBe(3);
  });

  test('guesses at one account do not slow another', async () => {
    await using world = await World.open(engine, { env: { RATE_LIMITS: 'auth=3/min' } });
    await world.as().auth.register({ email: 'bob@example.com', password: PASSWORD });
    for (let guess = 0; guess < 10; guess += 1) {
      const attacker = world.as(undefined, { ip: `192.0.2.${guess}` });
      await codeFrom(attacker.auth.login({ email: 'alice@example.com', password: 'wrong-password' }));
    }
    const bob = world
      .as(undefined, { ip: '198.51.100.2' })
      .auth.login({ email: 'bob@example.com', password: PASSWORD });
    expect(await bob).toHaveProperty('access_token');
  });

  test('a login begun with the old password gives no session once the password was changed', async () => {
    await using world = await World.open(engine);
    const { api, email } = await world.person();
    const { passwords } = world.services;
    const verify = passwords.verify.bind(passwords);
    let changed = false;
    passwords.verify = async (hash, password) => {
      const matches = await verify(hash, password);
      if (!changed) {
        changed = true;
        await api.auth.changePassword({ old_password: PASSWORD, new_password: 'a-brand-new-password' });
      }
      return matches;
    };
    expect(await codeFrom(world.as().auth.login({ email, password: PASSWORD }))).toBe('invalid_credentials');
  });

  test('a hash of another cost is made anew at the next login', async () => {
    await using world = await World.open(engine);
    const { id, email } = await world.person();
    const before = (await world.row(id)).password_hash ?? '';
    const secretKey = world.services.config.secrets.secretKey;
    Object.assign(world.services, { passwords: new Passwords({ secretKey, cost: 5 }) });
    await world.as().auth.login({ email, password: PASSWORD });
    const after = (await world.row(id)).password_hash ?? '';
    expect(after).not.toBe(before);
    expect(world.services.passwords.isOutdated(after)).toBe(false);
    expect(await world.as().auth.login({ email, password: PASSWORD })).toHaveProperty('access_token');
  });

  test('a long user agent is cut and an absent one is none', async () => {
    await using world = await World.open(engine);
    const { email } = await world.person();
    await world.as(undefined, { userAgent: 'x'.repeat(8000) }).auth.login({ email, password: PASSWORD });
    const last = await world.as(undefined, { userAgent: undefined }).auth.login({ email, password: PASSWORD });
    const sessions = await world.as(last.access_token).auth.sessions({});
    expect(sessions.map((session) => session.user_agent?.length ?? null)).toEqual([4, 255, null]);
  });
});

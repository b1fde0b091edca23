import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, PASSWORD, type Person, problemFrom, race, type Tokens, World } from './world.ts';

const refresh = (world: World, { refresh_token }: Tokens) => world.as().auth.refresh({ refresh_token });

/** Refresh tokens that would still be taken. */
async function liveTokens(world: World): Promise<number> {
  const rows = await world.store.kysely
    .selectFrom('sessions')
    .select('id')
    .where('used_at', 'is', null)
    .where('revoked_at', 'is', null)
    .execute();
  return rows.length;
}

async function rename(world: World, person: Person, newPassword: string) {
  return world.as(person.access_token).auth.changePassword({ old_password: PASSWORD, new_password: newPassword });
}

describe.each(engines)('refresh tokens on %s', (engine) => {
  test('a refresh token gives new tokens of the same session', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const next = await refresh(world, person);
    expect(next.refresh_token).not.toBe(person.refresh_token);
    expect(await world.as(next.access_token).auth.me()).toMatchObject({ id: person.id });
    expect(await world.as(next.access_token).auth.sessions({})).toHaveLength(1);
  });

  test('only the hash of a refresh token is stored', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const rows = await world.store.kysely.selectFrom('sessions').selectAll().execute();
    expect(JSON.stringify(rows)).not.toContain(person.refresh_token);
  });

  test('a repeat after a lost answer gets tokens, and the lost ones are worth nothing', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    await refresh(world, person);
    const second = await refresh(world, person);
    expect(await world.as(second.access_token).auth.me()).toMatchObject({ id: person.id });
    expect(await refresh(world, second)).toHaveProperty('refresh_token');
    expect(await liveTokens(world)).toBe(1);
  });

  test('a token that comes again after its successor was used ends the session for both holders', async () => {
    await using world = await World.open(engine);
    const first = await world.person();
    const second = await refresh(world, first);
    const third = await refresh(world, second);
    expect(await codeFrom(refresh(world, first))).toBe('invalid_refresh_token');
    expect(await codeFrom(refresh(world, third))).toBe('invalid_refresh_token');
    expect(await codeFrom(world.as(third.access_token).auth.me())).toBe('invalid_token');
    expect(await liveTokens(world)).toBe(0);
    expect(world.logs.join()).toContain('a spent refresh token came again');
  });

  test('a token that was replaced by a repeat ends the session when somebody uses it', async () => {
    await using world = await World.open(engine);
    const first = await world.person();
    const replaced = await refresh(world, first);
    const stolen = await refresh(world, first);
    expect(await codeFrom(refresh(world, replaced))).toBe('invalid_refresh_token');
    expect(await codeFrom(refresh(world, stolen))).toBe('invalid_refresh_token');
  });

  test('a reuse ends its own session and no other', async () => {
    await using world = await World.open(engine);
    const first = await world.person();
    const other = await world.as().auth.login({ email: first.email, password: PASSWORD });
    await refresh(world, await refresh(world, first));
    await codeFrom(refresh(world, first));
    expect(await world.as(other.access_token).auth.me()).toMatchObject({ id: first.id });
    expect(await refresh(world, other)).toHaveProperty('access_token');
  });

  test('50 refreshes of one token at once leave exactly one live token', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const { answers, codes } = await race(50, () => refresh(world, person));
    expect(answers.length).toBeGreaterThan(0);
    expect(new Set(codes).size).toBe(0);
    expect(await liveTokens(world)).toBe(1);
    const living: Tokens[] = [];
    // Only the last one handed out lives, but nobody knows which that is: look without spending.
    for (const answer of answers) {
      const row = await world.store.kysely
        .selectFrom('sessions')
        .innerJoin('sessions as first', 'first.successor_id', 'sessions.id')
        .select('sessions.token_hash')
        .executeTakeFirstOrThrow();
      const { sha256Hex } = await import('../../src/crypto/random.ts');
      if (sha256Hex(answer.refresh_token) === row.token_hash) living.push(answer);
    }
    expect(living).toHaveLength(1);
    expect(await refresh(world, living[0] as Tokens)).toHaveProperty('refresh_token');
  });

  test('a refresh and a logout at once leave no live token', async () => {
    await using world = await World.open(engine);
    for (let round = 0; round < 10; round += 1) {
      const person = await world.person();
      await Promise.allSettled([refresh(world, person), person.api.auth.logout({}), refresh(world, person)]);
      expect(await liveTokens(world)).toBe(0);
    }
  });

  test.each(['', 'x', 'x'.repeat(600), 'é', '\u0000'])('nonsense is refused without an error: %j', async (token) => {
    await using world = await World.open(engine);
    expect((await problemFrom(world.as().auth.refresh({ refresh_token: token }))).status).toBeLessThan(402);
  });

  test('an access token is no refresh token, and the other way round', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    expect(await codeFrom(world.as().auth.refresh({ refresh_token: person.access_token }))).toBe(
      'invalid_refresh_token',
    );
    expect(await codeFrom(world.as(person.refresh_token).auth.me())).toBe('invalid_token');
  });
});

describe.each(engines)('the end of sessions on %s', (engine) => {
  test('logout ends this session at once, tokens of both kinds, and no other', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const other = await world.as().auth.login({ email: person.email, password: PASSWORD });
    expect(await person.api.auth.logout({})).toEqual({ msg: 'logged out' });
    expect(await codeFrom(person.api.auth.me())).toBe('invalid_token');
    expect(await codeFrom(refresh(world, person))).toBe('invalid_refresh_token');
    expect(await world.as(other.access_token).auth.me()).toMatchObject({ id: person.id });
  });

  test('logout of all ends every session at once', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const other = await world.as().auth.login({ email: person.email, password: PASSWORD });
    await person.api.auth.logout({ all: true });
    for (const tokens of [person, other]) {
      expect(await codeFrom(world.as(tokens.access_token).auth.me())).toBe('invalid_token');
      expect(await codeFrom(refresh(world, tokens))).toBe('invalid_refresh_token');
    }
    expect(await world.as().auth.login({ email: person.email, password: PASSWORD })).toHaveProperty('access_token');
  });

  test('a list of sessions shows where one is signed in and which one asks', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const phone = { ip: '198.51.100.4', userAgent: 'phone' };
    await world.as(undefined, phone).auth.login({ email: person.email, password: PASSWORD });
    await (await world.person()).api.auth.me();
    const sessions = await person.api.auth.sessions({});
    expect(sessions.map(({ ip, user_agent, current }) => ({ ip, user_agent, current }))).toEqual([
      { ip: '203.0.113.7', user_agent: 'test', current: true },
      { ip: '198.51.100.4', user_agent: 'phone', current: false },
    ]);
    expect(await person.api.auth.sessions({ limit: 1, skip: 1 })).toEqual([sessions[1]]);
    expect(await person.api.auth.sessions({ after_id: sessions[0]?.id ?? 0 })).toEqual([sessions[1]]);
    expect(JSON.stringify(sessions)).not.toMatch(/hash|token/);
  });

  test('one of the own sessions can be ended by its id, once', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const other = await world.as().auth.login({ email: person.email, password: PASSWORD });
    const lost = (await person.api.auth.sessions({})).find(({ current }) => !current)?.id ?? 0;
    expect(await person.api.auth.revokeSession({ id: lost })).toEqual({ msg: 'session revoked', id: lost });
    expect(await codeFrom(world.as(other.access_token).auth.me())).toBe('invalid_token');
    expect(await codeFrom(person.api.auth.revokeSession({ id: lost }))).toBe('session_not_found');
  });

  test("another's session does not exist for one", async () => {
    await using world = await World.open(engine);
    const alice = await world.person();
    const bob = await world.person();
    const id = (await alice.api.auth.sessions({}))[0]?.id ?? 0;
    expect(await problemFrom(bob.api.auth.revokeSession({ id }))).toMatchObject({
      status: 404,
      code: 'session_not_found',
    });
    expect(await alice.api.auth.me()).toMatchObject({ id: alice.id });
  });
});

describe.each(engines)('a change of the password on %s', (engine) => {
  test('ends every session at once and answers the tokens of a new one', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const other = await world.as().auth.login({ email: person.email, password: PASSWORD });
    const tokens = await rename(world, person, 'a-brand-new-password');
    expect(await world.as(tokens.access_token).auth.me()).toMatchObject({ id: person.id });
    for (const old of [person, other]) {
      expect(await codeFrom(world.as(old.access_token).auth.me())).toBe('invalid_token');
      expect(await codeFrom(refresh(world, old))).toBe('invalid_refresh_token');
    }
    const login = (password: string) => world.as().auth.login({ email: person.email, password });
    expect(await codeFrom(login(PASSWORD))).toBe('invalid_credentials');
    expect(await login('a-brand-new-password')).toHaveProperty('access_token');
  });

  test('needs the old password, and a new one that is not easy to guess', async () => {
    await using world = await World.open(engine);
    const { api, email } = await world.person();
    const change = (old_password: string, new_password: string) =>
      codeFrom(api.auth.changePassword({ old_password, new_password }));
    expect(await change('wrong-password', 'a-brand-new-password')).toBe('invalid_credentials');
    expect(await change(PASSWORD, 'short')).toBe('password_too_short');
    expect(await change(PASSWORD, email)).toBe('password_too_common');
    expect(await api.auth.me()).toMatchObject({ email });
  });

  test('happens once when asked for twice at once', async () => {
    await using world = await World.open(engine);
    const person = await world.person();
    const { answers, codes } = await race(5, (index) => rename(world, person, `a-brand-new-password-${index}`));
    expect(answers).toHaveLength(1);
    for (const code of codes) expect(['invalid_credentials', 'invalid_token']).toContain(code);
  });
});

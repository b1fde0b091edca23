import { describe, expect, test } from 'vitest';
import { engines, PASSWORD, PROMOTE_SECRET, startApp } from '../harness.ts';

describe.each(engines)('accounts over REST on %s', (engine) => {
  test('the first-run story of the old service works word for word', async () => {
    await using app = await startApp({ engine });
    const register = (email: string) =>
      app.rest<{ id: number }>('POST', '/auth/register', { body: { email, password: PASSWORD } });
    expect((await register('one@example.com')).body.id).toBe(1);
    expect((await register('two@example.com')).body.id).toBe(2);
    const promoted = await app.rest('POST', `/auth/admin/promote?user_id=2&secret=${PROMOTE_SECRET}`);
    expect(promoted).toMatchObject({ status: 200, body: { msg: 'user promoted', user_id: 2 } });
    const login = await app.rest<{ access_token: string }>('POST', '/auth/login', {
      body: { email: 'two@example.com', password: PASSWORD },
    });
    const tariff = await app.rest('POST', '/tariffs/', {
      token: login.body.access_token,
      body: { name: 'Month', duration_days: 30, price: '9.99', currency: 'USD' },
    });
    expect(tariff).toMatchObject({ status: 200, body: { price: '9.99' } });
  });

  test('D6: the secret is in no log line, and wins nothing a second time', async () => {
    await using app = await startApp({ engine });
    const [alice, bob] = [await app.register(), await app.register()];
    const promote = (id: number) => app.rest('POST', `/auth/admin/promote?user_id=${id}&secret=${PROMOTE_SECRET}`);
    expect((await promote(alice.id)).status).toBe(200);
    expect(await promote(bob.id)).toMatchObject({
      status: 403,
      body: { detail: 'Admin privileges required to promote', code: 'promotion_refused' },
    });
    expect(app.logs.length).toBeGreaterThan(0);
    expect(app.logs.join('')).not.toContain(PROMOTE_SECRET);
  });

  test('the body of a promotion wins over its query string', async () => {
    await using app = await startApp({ engine });
    const [alice, bob] = [await app.register(), await app.register()];
    const answer = await app.rest('POST', `/auth/admin/promote?user_id=${alice.id}&secret=wrong`, {
      body: { user_id: bob.id, secret: PROMOTE_SECRET },
    });
    expect(answer.body).toEqual({ msg: 'user promoted', user_id: bob.id });
  });

  test('D12: the OAuth2 password form signs in too, whatever else it carries', async () => {
    await using app = await startApp({ engine });
    const { email } = await app.register();
    const form = new URLSearchParams({ grant_type: 'password', username: email, password: PASSWORD, scope: '' });
    const answer = await app.rest('POST', '/auth/login', {
      body: form.toString(),
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    expect(answer).toMatchObject({ status: 200, body: { token_type: 'bearer', expires_in: 3600 } });
  });

  test('D10: unknown user, wrong password and blocked user differ in no byte but the request id', async () => {
    await using app = await startApp({ engine });
    const admin = await app.admin();
    const blocked = await app.register('blocked@example.com');
    await app.register('alice@example.com');
    await app.rest('POST', `/users/${blocked.id}/block`, { token: admin.token });
    const answers = await Promise.all(
      [
        { email: 'nobody@example.com', password: PASSWORD },
        { email: 'alice@example.com', password: 'wrong-password' },
        { email: 'blocked@example.com', password: PASSWORD },
      ].map((body) => app.rest('POST', '/auth/login', { body })),
    );
    const comparable = answers.map(({ status, headers, body }) => ({
      status,
      headers: [...headers].filter(([name]) => !['date', 'x-request-id'].includes(name)),
      body: { ...body, request_id: '' },
    }));
    expect(comparable[0]).toMatchObject({ status: 401, body: { detail: 'Invalid credentials' } });
    for (const answer of comparable) expect(answer).toEqual(comparable[0]);
  });

  test('D10: logins are limited by address, and the answer says when to come back', async () => {
    await using app = await startApp({ engine, env: { RATE_LIMITS: 'auth=3/min' } });
    const statuses: number[] = [];
    let retryAfter: string | null = null;
    for (let guess = 0; guess < 5; guess += 1) {
      const body = { email: `user${guess}@example.com`, password: 'wrong-password' };
      const answer = await app.rest('POST', '/auth/login', { body });
      statuses.push(answer.status);
      retryAfter = answer.headers.get('retry-after');
    }
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    expect(Number(retryAfter)).toBeGreaterThan(0);
  });

  test('an empty body is a logout of this session, and its access token ends with it', async () => {
    await using app = await startApp({ engine });
    const { token } = await app.register();
    const answer = await app.rest('POST', '/auth/logout', { token, headers: { 'content-type': 'application/json' } });
    expect(answer).toMatchObject({ status: 200, body: { msg: 'logged out' } });
    expect((await app.rest('GET', '/auth/me', { token })).status).toBe(401);
  });

  test('answers to a known caller are not kept by caches', async () => {
    await using app = await startApp({ engine });
    const { token } = await app.register();
    const answer = await app.rest('GET', '/auth/me', { token });
    expect(answer.headers.get('cache-control')).toContain('no-store');
  });
});

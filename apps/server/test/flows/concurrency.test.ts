import type { Engine } from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { World } from '../api/world.ts';
import { addDevice, ok, openPayment, paidEvent, pay, sellTariff } from '../e2e/shop.ts';
import { type Answer, engines, PASSWORD, startApp } from '../harness.ts';

/** Sends the same many times at once, as impatient clients and providers do. */
function atOnce<T>(times: number, send: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: times }, (_, index) => send(index)));
}

const tally = (answers: readonly Answer[]) =>
  Object.fromEntries(
    Map.groupBy(answers, ({ status }) => status)
      .entries()
      .map(([status, all]) => [status, all.length]),
  );

/** As many connections as an operator would give a small server. */
const startSmall = (engine: Engine) => startApp({ engine, env: { DATABASE_POOL_SIZE: '5' } });

describe.each(engines)('at once, over HTTP, on %s', (engine) => {
  test('50 registrations of one e-mail make one user, and the others hear that it is taken', async () => {
    await using app = await startSmall(engine);
    const spellings = ['once@example.com', 'Once@Example.com', ' once@example.com '];
    const answers = await atOnce(50, (index) =>
      app.rest('POST', '/auth/register', { body: { email: spellings[index % 3], password: PASSWORD } }),
    );
    expect(tally(answers)).toEqual({ 200: 1, 409: 49 });
    expect(new Set(answers.filter(({ status }) => status === 409).map(({ body }) => body.detail))).toEqual(
      new Set(['Email already registered']),
    );
    const { token } = await app.admin();
    const users = await app.rest<unknown[]>('GET', '/users?email=once@example.com', { token });
    expect(users.body).toHaveLength(1);
  });

  test('50 uses of one refresh token leave one session with one live token', async () => {
    await using app = await startSmall(engine);
    const { refreshToken } = await app.register();
    const refresh = (refresh_token: unknown) =>
      app.rest<{ access_token: string; refresh_token: string }>('POST', '/auth/refresh', { body: { refresh_token } });
    const answers = await atOnce(50, () => refresh(refreshToken));
    const given = answers.filter(({ status }) => status === 200).map(({ body }) => body);
    expect(given.length).toBeGreaterThan(0);
    expect(answers.every(({ status }) => status === 200 || status === 401)).toBe(true);
    const sessions = await app.rest<unknown[]>('GET', '/auth/sessions', { token: given[0]?.access_token });
    expect(sessions.body).toHaveLength(1);
    const rows = await app.store.kysely.selectFrom('sessions').selectAll().execute();
    expect(rows.filter((row) => row.used_at === null && row.revoked_at === null)).toHaveLength(1);
  });

  test('20 devices of one user at once stay within the limit, with an address each', async () => {
    await using app = await startSmall(engine);
    const tariff = await sellTariff(app, (await app.admin()).token, 3);
    const { token } = await app.register();
    await pay(app, token, tariff);
    const answers = await atOnce(20, () => app.rest('POST', '/vpn_peers/self', { token, body: {} }));
    expect(tally(answers)).toEqual({ 200: 3, 409: 17 });
    const made = answers.filter(({ status }) => status === 200).map(({ body }) => body.wg_ip);
    expect(new Set(made).size).toBe(3);
  });

  test('200 deliveries of one webhook are all answered with 200, and make one period', async () => {
    await using app = await startSmall(engine);
    const tariff = await sellTariff(app, (await app.admin()).token);
    const { token } = await app.register();
    const payment = await openPayment(app, token, tariff);
    const answers = await atOnce(200, () => app.webhook(paidEvent(payment), { id: 'msg-1' }));
    expect(tally(answers)).toEqual({ 200: 200 });
    const results = answers.map(({ body }) => body.result);
    expect(results.filter((result) => result === 'settled')).toHaveLength(1);
    expect(results.filter((result) => result === 'duplicate')).toHaveLength(199);
    const { body } = await app.rest<{ periods: unknown[]; days_remaining: number }>('GET', '/auth/me/subscription', {
      token,
    });
    expect([body.periods.length, body.days_remaining]).toEqual([1, 30]);
  });

  test('40 different payments of one user grant every day that was paid', async () => {
    await using app = await startSmall(engine);
    const admin = await app.admin();
    const tariff = await sellTariff(app, admin.token);
    const { id, token } = await app.register();
    const payments = await atOnce(40, (index) => {
      const body = { user_id: id, tariff_id: tariff.id, provider: 'standard', provider_payment_id: `ch-${index}` };
      return ok(
        app.rest<{ id: number; reference: string; amount: string; currency: string }>('POST', '/payments/create', {
          token: admin.token,
          body,
        }),
      );
    });
    const answers = await Promise.all(
      payments.map(({ reference, amount, currency }, index) => {
        const data = { reference, amount, currency, provider_payment_id: `ch-${index}` };
        return app.webhook({ type: 'payment.completed', data });
      }),
    );
    expect(answers.map(({ body }) => body.result)).toEqual(answers.map(() => 'settled'));
    const { body } = await app.rest('GET', '/auth/me/subscription', { token });
    expect(body.days_remaining).toBe(40 * 30);
  });

  test('1 000 devices of 50 users by 20 callers have 1 000 addresses', async () => {
    // In real time the reconciler pauses between its rounds; while time stands still it would compare after every device.
    await using app = await startApp({ engine, clock: 'system', env: { WG_POOL_V4: '10.8.0.0/20' } });
    const world = await World.open(app);
    const users = await atOnce(50, async () => {
      const { id } = await world.account();
      await world.subscribe(id);
      return id;
    });
    const key = await world.apiKey('peers:write');
    const todo = Array.from({ length: 1_000 }, (_, index) => users[index % users.length]);
    const addresses: string[] = [];
    await atOnce(20, async () => {
      for (let user_id = todo.pop(); user_id !== undefined; user_id = todo.pop()) {
        const peer = await ok(app.rest<{ wg_ip: string }>('POST', '/vpn_peers', { token: key, body: { user_id } }));
        addresses.push(peer.wg_ip);
      }
    });
    expect(addresses).toHaveLength(1_000);
    expect(new Set(addresses).size).toBe(1_000);
  }, 120_000);

  test('a payment and a webhook of it, a device and its removal, a block and a login: no error of ours', async () => {
    await using app = await startSmall(engine);
    const admin = await app.admin();
    const tariff = await sellTariff(app, admin.token, 5);
    const customer = await app.register();
    await pay(app, customer.token, tariff);
    const { id } = await addDevice(app, customer.token);
    const { token } = customer;
    const answers = await atOnce(60, (index) => {
      const calls = [
        () => app.rest('POST', '/payments/create', { token, body: { tariff_id: tariff.id, provider: 'standard' } }),
        () => app.rest('POST', '/vpn_peers/self', { token, body: {} }),
        () => app.rest('DELETE', `/vpn_peers/${id}`, { token }),
        () => app.rest('POST', `/vpn_peers/${id}/rotate`, { token, body: {} }),
        () => app.rest('POST', `/users/${customer.id}/block`, { token: admin.token }),
        () => app.rest('POST', `/users/${customer.id}/unblock`, { token: admin.token }),
      ];
      return (calls[index % calls.length] as () => Promise<Answer>)();
    });
    expect(answers.filter(({ status }) => status >= 500).map(({ text }) => text)).toEqual([]);
    expect(app.logs.filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([]);
  });
});

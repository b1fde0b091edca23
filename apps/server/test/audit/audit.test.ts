import { describe, expect, test } from 'vitest';
import { type App, engines, startApp } from '../harness.ts';

interface Entry {
  readonly id: number;
  readonly actor: string;
  readonly action: string;
  readonly target: string | null;
  readonly ip: string | null;
  readonly details: Record<string, unknown>;
}

describe.each(engines)('the audit log on %s', (engine) => {
  test('tells an admin who did what to which row, from where, and filters by each', async () => {
    await using app = await startApp({ engine });
    const admin = await app.admin();
    const customer = await app.register();
    const key = await app.apiKey(['subscriptions:write']);
    const tariff = { name: 'Month', duration_days: 30, price: '5.00' };
    const { body: sold } = await app.rest<{ id: number }>('POST', '/tariffs', { token: admin.token, body: tariff });
    const grant = { user_id: customer.id, tariff_id: sold.id };
    await app.rest('POST', '/subscriptions/grant', { token: key, body: grant });

    const all = await entries(app);
    expect(all.map(({ action }) => action)).toEqual(['api_key.create', 'tariff.create', 'subscription.grant']);
    const [made, , granted] = all;
    expect(made).toMatchObject({ actor: `user:${admin.id}`, ip: '127.0.0.1' });
    expect(granted?.actor).toBe('key:1');
    expect(await entries(app, 'action=tariff.create')).toEqual([all[1]]);
    expect(await entries(app, 'actor=key:1')).toEqual([granted]);
    expect(await entries(app, `target=${granted?.target}`)).toEqual([granted]);
    expect(await entries(app, `after_id=${all[1]?.id}`)).toEqual([granted]);
    expect(await entries(app, 'since=2030-01-01T00:00:00.000Z')).toEqual([]);
  });

  test('has one row for every act on money, by whom and to which row', async () => {
    await using app = await startApp({ engine });
    const { token, id: adminId } = await app.admin();
    const customer = await app.register();
    const act = async <T = { id: number }>(path: string, body: object, by = token): Promise<T> => {
      const answer = await app.rest<T>('POST', path, { token: by, body });
      expect(answer.status, `${path}: ${answer.text}`).toBe(200);
      return answer.body;
    };
    const month = await act('/tariffs', { name: 'Month', price: '5.00' });
    const trial = await act('/tariffs', { name: 'Trial', price: '0', trial: true });
    const known = (await entries(app)).length;

    await act('/subscriptions/trial', { tariff_id: trial.id }, customer.token);
    const order = { tariff_id: month.id, user_id: customer.id };
    const manual = await act('/payments', { ...order, provider: 'manual' });
    await act(`/payments/${manual.id}/resolve`, { action: 'accept', note: 'cash' });
    await act(`/payments/${manual.id}/refund`, { amount: '1.00', reason: 'late', external: true });
    const standard = await act('/payments', { ...order, provider: 'standard' });
    const nameless = { provider_payment_id: 'ch_1', amount: '5.00', currency: 'USD' };
    await app.webhook({ type: 'payment.completed', data: nameless });
    const { body: inbox } = await app.rest<{ id: number }[]>('GET', '/payments/events?outcome=parked', { token });
    await act(`/payments/events/${inbox[0]?.id}/attach`, { payment_id: standard.id });
    await act('/subscriptions/grant', { ...order, reason: 'gift' });
    await act('/subscriptions/extend', { user_id: customer.id, days: 3, reason: 'outage' });
    const { body: subscription } = await app.rest<{ id: number }>('GET', '/auth/me/subscription', {
      token: customer.token,
    });
    await act('/subscriptions/revoke', { period_id: subscription.id, reason: 'abuse' });

    const [admin, user] = [`user:${adminId}`, `user:${customer.id}`];
    const rows = (await entries(app)).slice(known);
    expect(rows.map(({ actor, action, target }) => [actor, action, target])).toEqual([
      [user, 'subscription.trial', user],
      [admin, 'payment.create', `payment:${manual.id}`],
      [admin, 'payment.resolve', `payment:${manual.id}`],
      [admin, 'payment.refund', `payment:${manual.id}`],
      [admin, 'payment.create', `payment:${standard.id}`],
      [admin, 'payment.attach_event', `payment:${standard.id}`],
      [admin, 'subscription.grant', user],
      [admin, 'subscription.extend', user],
      [admin, 'subscription.revoke', user],
    ]);
    const reasons = rows.flatMap(({ details }) => details.reason ?? details.note ?? []);
    expect(reasons).toEqual(['cash', 'late', 'gift', 'outage', 'abuse']);
  });

  test('has one row for every act on an endpoint, and never its secret', async () => {
    await using app = await startApp({ engine });
    const { token } = await app.admin();
    const body = { url: 'https://hooks.example.com/vpn', types: ['user.created'] };
    const { body: made } = await app.rest<{ id: number; secret: string }>('POST', '/webhook_endpoints', {
      token,
      body,
    });
    const path = `/webhook_endpoints/${made.id}`;
    await app.rest('PUT', path, { token, body: { disabled: true } });
    const { body: rotated } = await app.rest<{ secret: string }>('POST', `${path}/rotate_secret`, { token, body: {} });
    await app.rest('DELETE', path, { token });
    const rows = await entries(app, `target=webhook_endpoint:${made.id}`);
    expect(rows.map(({ action }) => action)).toEqual(
      ['create', 'update', 'rotate_secret', 'remove'].map((act) => `webhook_endpoint.${act}`),
    );
    for (const secret of [made.secret, rotated.secret]) expect(JSON.stringify(rows)).not.toContain(secret);
  });

  test('is for admins alone', async () => {
    await using app = await startApp({ engine });
    const { token } = await app.register();
    expect((await app.rest('GET', '/audit', { token })).status).toBe(403);
  });
});

async function entries(app: App, query = ''): Promise<Entry[]> {
  const { token } = await app.admin();
  const answer = await app.rest<Entry[]>('GET', `/audit?${query}`, { token });
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
}

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

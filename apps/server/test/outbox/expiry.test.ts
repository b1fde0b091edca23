import { describe, expect, test } from 'vitest';
import { type App, engines, startApp } from '../harness.ts';
import { adminToken, makeNews } from './world.ts';

const DAY = 86_400;

interface Told {
  readonly type: string;
  readonly timestamp: string;
  readonly data: { readonly user_id: number; readonly ends_at: string };
}

describe.each(engines)('the end of paid time on %s', (engine) => {
  test('is told three days and one day before it and when it comes, once each', async () => {
    await using app = await startApp({ engine });
    const customer = await subscribed(app, 30);
    await passTime(app, 31 * DAY, DAY / 4);
    const told = await notices(app);
    expect(told.map(({ type }) => type)).toEqual([
      'subscription.expiring',
      'subscription.expiring',
      'subscription.expired',
    ]);
    const end = Date.parse(told[0]?.data.ends_at ?? '');
    const hoursBefore = told.map(({ timestamp }) => (end - Date.parse(timestamp)) / 3_600_000);
    expect(hoursBefore.map((hours) => Math.round(hours))).toEqual([72, 24, 0]);
    expect(new Set(told.map(({ data }) => data.user_id))).toEqual(new Set([customer]));
  });

  test('is not told when it moved away meanwhile', async () => {
    await using app = await startApp({ engine });
    const customer = await subscribed(app, 30);
    await passTime(app, 26 * DAY, DAY);
    await subscribed(app, 30, customer);
    await passTime(app, 20 * DAY, DAY);
    expect(await notices(app)).toEqual([]);
  });

  test('that was missed while the server was down is told once, by the nearest distance', async () => {
    await using app = await startApp({ engine, env: { EXPIRY_NOTICE_HOURS: '168,72,24' } });
    await subscribed(app, 30);
    await passTime(app, 28 * DAY + 3_600, 28 * DAY + 3_600);
    expect(await notices(app)).toMatchObject([{ type: 'subscription.expiring' }]);
  });

  test('is not told again and again for periods shorter than the distance', async () => {
    await using app = await startApp({ engine });
    await subscribed(app, 1);
    await passTime(app, 2 * DAY, 3_600);
    expect((await notices(app)).map(({ type }) => type)).toEqual(['subscription.expired']);
  });

  test('that was brought forward by hand is not called expired', async () => {
    await using app = await startApp({ engine });
    const customer = await subscribed(app, 30);
    const token = await adminToken(app);
    const { body: state } = await app.rest<{ subscription: { periods: { id: number }[] } }>(
      'GET',
      `/users/${customer}/state`,
      { token },
    );
    const body = { period_id: state.subscription.periods[0]?.id, reason: 'fraud' };
    expect((await app.rest('POST', '/subscriptions/revoke', { token, body })).status).toBe(200);
    await passTime(app, 2 * DAY, DAY);
    expect(await notices(app)).toEqual([]);
  });

  test('that a refund brought nearer is still announced', async () => {
    await using app = await startApp({ engine });
    const customer = await subscribed(app, 30);
    await passTime(app, 10 * DAY, DAY);
    // As a partial refund leaves it: the end is two days away now.
    await app.store.kysely
      .updateTable('subscription_periods')
      .set((eb) => ({
        cut_seconds: 18 * DAY,
        ends_at: new Date(Date.parse(app.clock.now()) + 2 * DAY * 1000).toISOString(),
        seq: eb.ref('seq'),
      }))
      .where('user_id', '=', customer)
      .execute();
    await passTime(app, 2 * 3_600, 600);
    expect(await notices(app)).toMatchObject([{ type: 'subscription.expiring' }]);
  });

  test('is told although a renewal behind it was paid back', async () => {
    await using app = await startApp({ engine });
    const customer = await subscribed(app, 30);
    const renewal = await paidRenewal(app, customer);
    await passTime(app, 10 * DAY, DAY);
    const token = await adminToken(app);
    const body = { reason: 'changed his mind', external: true };
    expect((await app.rest('POST', `/payments/${renewal}/refund`, { token, body })).body.status).toBe('refunded');
    await passTime(app, 21 * DAY, DAY / 4);
    expect((await notices(app)).map(({ type }) => type)).toEqual([
      'subscription.expiring',
      'subscription.expiring',
      'subscription.expired',
    ]);
  });

  test('is told of an end that was written by somebody who took his time, a moment after it was looked for', async () => {
    await using app = await startApp({ engine });
    await passTime(app, 3_600, 60);
    const customer = await subscribed(app, 30);
    await passTime(app, 3_600, 60);
    // A refund that began before the last round and was committed behind it: the end lies in time that was told.
    const end = new Date(Date.parse(app.clock.now()) - 5_000).toISOString();
    await app.store.kysely
      .updateTable('subscription_periods')
      .set({ cut_seconds: 30 * DAY - 3_600 + 4, ends_at: end })
      .where('user_id', '=', customer)
      .execute();
    await passTime(app, 3_600, 60);
    expect((await notices(app)).map(({ type }) => type)).toEqual(['subscription.expired']);
  });

  test('is told once, however far ahead, though old events are deleted', async () => {
    await using app = await startApp({ engine, env: { EXPIRY_NOTICE_HOURS: '1440' } });
    await subscribed(app, 90);
    await passTime(app, 31 * DAY, DAY);
    const first = await notices(app);
    expect(first).toHaveLength(1);
    await makeNews(app);
    await passTime(app, 32 * DAY, DAY);
    expect(await notices(app)).toEqual(first);
  });
});

/** Pays for what the customer has again, behind it. Answers the payment's id. */
async function paidRenewal(app: App, user_id: number): Promise<number> {
  const token = await adminToken(app);
  const tariff = { name: `T${Math.random()}`, duration_days: 30, price: '5.00' };
  const { body: sold } = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: tariff });
  const order = { user_id, tariff_id: sold.id, provider: 'manual', apply: 'extend' };
  const { body: payment } = await app.rest<{ id: number }>('POST', '/payments', { token, body: order });
  const body = { action: 'accept' };
  expect((await app.rest('POST', `/payments/${payment.id}/resolve`, { token, body })).status).toBe(200);
  return payment.id;
}

async function subscribed(app: App, days: number, userId?: number): Promise<number> {
  const token = await adminToken(app);
  const tariff = { name: `T${Math.random()}`, duration_days: days, price: '5.00' };
  const { body: sold } = await app.rest<{ id: number }>('POST', '/tariffs', { token, body: tariff });
  const user_id = userId ?? (await app.register()).id;
  const body = { user_id, tariff_id: sold.id };
  expect((await app.rest('POST', '/subscriptions/grant', { token, body })).status).toBe(200);
  return user_id;
}

/** Moves the clock in steps; timers that are due fire on the way. */
async function passTime(app: App, seconds: number, step: number): Promise<void> {
  for (let passed = 0; passed < seconds; passed += step) {
    app.clock.advance(Math.min(step, seconds - passed));
    await app.server.expiryNotices.idle();
    await app.settled();
  }
  // A loop that was running while time jumped rests for a second afterwards.
  app.clock.advance(1);
  await app.settled();
}

async function notices(app: App): Promise<Told[]> {
  const token = await adminToken(app);
  const all = await app.rest<Told[]>('GET', '/events?limit=100', { token });
  return all.body.filter(({ type }) => type === 'subscription.expiring' || type === 'subscription.expired');
}

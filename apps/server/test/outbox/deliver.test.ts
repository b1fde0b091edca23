import { insertOutboxEvent } from '@vpn-api/db';
import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { type App, engines, START } from '../harness.ts';
import { accept, answer, isSignedBy, Receiver, vanish } from './receiver.ts';
import { addEndpoint, adminToken, deliveries, makeNews, startOutboxApp } from './world.ts';

/** The pauses between attempts, in seconds, as `domain/delivery.ts` promises them. */
const PAUSES = [5, 300, 1_800, 7_200, 18_000, 36_000, 23_095];

describe.each(engines)('webhooks out on %s', (engine) => {
  test('an event arrives signed, with its type, its time and its data, and once', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const { id, secret } = await addEndpoint(app, { url: receiver.url });
    await skipAnId(app);
    await makeNews(app);
    await app.settled();
    const [event, ...others] = receiver.received;
    if (event === undefined) throw new Error('nothing arrived');
    expect(others).toEqual([]);
    expect(event.type).toBe('user.created');
    expect(event.data.user_id).toEqual(expect.any(Number));
    expect(JSON.parse(event.raw).timestamp).toBe(app.clock.now());
    expect(secret).toMatch(/^whsec_/);
    expect(isSignedBy(event, secret)).toBe(true);
    const log = { status: 'delivered', attempts: 1, last_status: 204, type: 'user.created' };
    expect(await deliveries(app, { id })).toMatchObject([{ ...log, event_id: Number(event.id.replace('evt_', '')) }]);
  });

  test('a paid payment tells of the money, the period and, in that order, of nothing else', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const customer = await app.register();
    await addEndpoint(app, { url: receiver.url });
    await payOnce(app, customer.token);
    await app.settled();
    expect(receiver.types).toEqual(['payment.completed', 'subscription.started']);
    expect(receiver.received[0]?.data).toMatchObject({ user_id: customer.id, amount: '5.00', status: 'completed' });
  });

  test('an endpoint gets the types it asked for, and nothing from before it was made', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    await makeNews(app);
    await app.settled();
    const customer = await app.register();
    await app.settled();
    await addEndpoint(app, { url: receiver.url, types: ['payment.completed'] });
    await makeNews(app);
    await payOnce(app, customer.token);
    await app.settled();
    expect(receiver.types).toEqual(['payment.completed']);
  });

  test('events wait behind one that fails, and arrive in order when the receiver is back, under the same ids', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = answer(500);
    await makeNews(app, 3);
    await app.settled();
    expect(receiver.received).toHaveLength(1);
    expect(await deliveries(app, endpoint)).toMatchObject([
      { status: 'pending', attempts: 1, last_status: 500, last_error: 'answered 500' },
      { status: 'pending', attempts: 0 },
      { status: 'pending', attempts: 0 },
    ]);
    receiver.behaviour = accept;
    app.clock.advance(PAUSES[0] ?? 0);
    await app.settled();
    const ids = receiver.received.map((event) => event.id);
    expect(ids).toHaveLength(4);
    expect(ids[0]).toBe(ids[1]);
    expect(receiver.received[0]?.raw).toBe(receiver.received[1]?.raw);
    expect(numbers(ids)).toEqual(numbers(ids).toSorted((a, b) => a - b));
  });

  test('a receiver that fails for a day loses one event visibly, the next ones go on, and a person can send it again', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = vanish;
    await makeNews(app);
    await app.settled();
    for (const pause of PAUSES) {
      app.clock.advance(pause - 1);
      await app.settled();
      const before = receiver.received.length;
      app.clock.advance(1);
      await app.settled();
      expect(receiver.received.length).toBe(before + 1);
    }
    expect(PAUSES.reduce((sum, pause) => sum + pause)).toBe(86_400);
    const [dead] = await deliveries(app, endpoint, 'status=dead');
    expect(dead).toMatchObject({ attempts: 8, last_error: expect.stringContaining('not reached') });
    expect(app.logs.join('\n')).toContain('given up');

    receiver.behaviour = accept;
    await makeNews(app);
    await app.settled();
    const lastId = receiver.received.at(-1)?.id;
    expect(lastId).not.toBe(receiver.received[0]?.id);
    const token = await adminToken(app);
    const again = `/webhook_endpoints/${endpoint.id}/deliveries/${dead?.id}/redeliver`;
    expect((await app.rest('POST', again, { token, body: {} })).status).toBe(200);
    await app.settled();
    expect(receiver.received.at(-1)?.id).toBe(receiver.received[0]?.id);
    expect(await deliveries(app, endpoint, 'status=dead')).toEqual([]);
  });

  test('an endpoint that never recovers piles up no more than a day: each event dies in plain sight when it is that old', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = vanish;
    for (let hour = 0; hour < 72; hour += 1) {
      if (hour % 6 === 0) await makeNews(app);
      await app.settled();
      await passHour(app);
    }
    const rows = await deliveries(app, endpoint);
    expect(rows).toHaveLength(12);
    const isDayOld = rows.map((_, n) => 72 - 6 * n >= 24);
    expect(rows.map(({ status }) => status === 'dead')).toEqual(isDayOld);
    expect(rows.every(({ status, attempts }) => status === 'pending' || attempts > 0)).toBe(true);
    const token = await adminToken(app);
    const { body } = await app.rest('GET', `/webhook_endpoints/${endpoint.id}`, { token });
    expect(body.failing_since).toBe(START);

    receiver.behaviour = accept;
    for (let hour = 0; hour < 10; hour += 1) await passHour(app);
    expect(await deliveries(app, endpoint, 'status=pending')).toEqual([]);
    expect(await deliveries(app, endpoint, 'status=delivered')).toHaveLength(3);
    const again = await adminToken(app);
    const after = await app.rest('GET', `/webhook_endpoints/${endpoint.id}`, { token: again });
    expect(after.body.failing_since).toBeNull();
  });

  test('what waited while an endpoint was disabled has a day of its own when it goes on', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = answer(410);
    await makeNews(app, 3);
    await app.settled();
    app.clock.advance(3 * 86_400);
    await app.settled();
    receiver.behaviour = answer(500);
    const body = { disabled: false };
    const token = await adminToken(app);
    expect((await app.rest('PUT', `/webhook_endpoints/${endpoint.id}`, { token, body })).status).toBe(200);
    await app.settled();
    expect(await deliveries(app, endpoint)).toMatchObject(Array(3).fill({ status: 'pending' }));
    for (let hour = 0; hour < 20; hour += 1) await passHour(app);
    receiver.behaviour = accept;
    for (let hour = 0; hour < 10; hour += 1) await passHour(app);
    expect(await deliveries(app, endpoint)).toMatchObject(Array(3).fill({ status: 'delivered' }));
  });

  test('what waited for a wrong address goes to the right one at once, whatever the wrong one still answers', async () => {
    await using wrong = await Receiver.start();
    await using right = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: wrong.url });
    wrong.behaviour = vanish;
    await makeNews(app, 2);
    await app.settled();
    for (let hour = 0; hour < 30; hour += 1) await passHour(app);
    await makeNews(app);
    await app.settled();
    const { promise: asked, resolve: ask } = Promise.withResolvers<() => void>();
    wrong.behaviour = (response) => ask(() => response.writeHead(410).end());
    for (let hour = 0; hour < 10; hour += 1) {
      app.clock.advance(3_600);
      if (await Promise.race([asked, app.settled().then(() => undefined)])) break;
    }
    const answerLate = await asked;
    const token = await adminToken(app);
    const path = `/webhook_endpoints/${endpoint.id}`;
    expect((await app.rest('PUT', path, { token, body: { url: right.url } })).status).toBe(200);
    answerLate();
    await app.settled();
    expect(right.received).toHaveLength(1);
    const { body } = await app.rest('GET', path, { token });
    expect(body).toMatchObject({ disabled_at: null, failing_since: null });
  });

  test('an attempt that was slow to fail does not undo what another process has delivered meanwhile', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    const { promise: asked, resolve: ask } = Promise.withResolvers<() => void>();
    receiver.behaviour = (response) => ask(() => response.destroy());
    await makeNews(app);
    const fail = await asked;
    // As the one that took over the lease would leave it.
    const delivered = { status: 'delivered', attempts: 1, delivered_at: app.clock.now() } as const;
    await app.store.kysely.updateTable('webhook_deliveries').set(delivered).execute();
    fail();
    await app.settled();
    expect(await deliveries(app, endpoint)).toMatchObject([{ status: 'delivered', attempts: 1, last_error: null }]);
  });

  test('410 disables the endpoint until an admin lets it go on, and then nothing is missing', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = answer(410);
    await makeNews(app, 2);
    await app.settled();
    expect(receiver.received).toHaveLength(1);
    const token = await adminToken(app);
    const path = `/webhook_endpoints/${endpoint.id}`;
    expect((await app.rest('GET', path, { token })).body).toMatchObject({ disabled_reason: 'answered 410 Gone' });
    receiver.behaviour = accept;
    app.clock.advance(86_400);
    await app.settled();
    expect(receiver.received).toHaveLength(1);
    const later = await adminToken(app);
    expect((await app.rest('PUT', path, { token: later, body: { disabled: false } })).status).toBe(200);
    await app.settled();
    expect(new Set(receiver.received.map((event) => event.id)).size).toBe(2);
  });

  test('a receiver that asks for patience gets it', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = answer(429, { 'retry-after': '120' });
    await makeNews(app);
    await app.settled();
    const [waiting] = await deliveries(app, endpoint);
    expect(Date.parse(waiting?.next_attempt_at ?? '') - Date.parse(app.clock.now())).toBe(120_000);
  });

  test('a receiver that is slow or gone delays no other', async () => {
    await using receiver = await Receiver.start();
    await using stuck = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    stuck.behaviour = (response) => void released.then(() => response.writeHead(204).end());
    await addEndpoint(app, { url: stuck.url });
    await addEndpoint(app, { url: receiver.url });
    const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
    receiver.behaviour = (response) => {
      response.writeHead(204).end();
      arrive();
    };
    await makeNews(app);
    await arrived;
    release();
    await app.settled();
    expect(stuck.received).toHaveLength(1);
  });

  test('a changed secret signs beside the old one for a day, and alone after it', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    const token = await adminToken(app);
    const rotate = `/webhook_endpoints/${endpoint.id}/rotate_secret`;
    const { body: rotated } = await app.rest<{ secret: string }>('POST', rotate, { token, body: {} });
    await makeNews(app);
    await app.settled();
    app.clock.advance(86_401);
    await makeNews(app);
    await app.settled();
    const [during, after] = receiver.received;
    if (during === undefined || after === undefined) throw new Error('something is missing');
    expect([isSignedBy(during, endpoint.secret), isSignedBy(during, rotated.secret)]).toEqual([true, true]);
    expect([isSignedBy(after, endpoint.secret), isSignedBy(after, rotated.secret)]).toEqual([false, true]);
  });

  test('an endpoint that was removed gets nothing more, and its secret is nowhere in the database', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    const token = await adminToken(app);
    expect((await app.rest('DELETE', `/webhook_endpoints/${endpoint.id}`, { token })).status).toBe(200);
    await makeNews(app);
    await app.settled();
    expect(receiver.received).toEqual([]);
    const rows = await app.store.kysely.selectFrom('webhook_endpoints').selectAll().execute();
    expect(JSON.stringify(rows)).not.toContain(endpoint.secret.replace('whsec_', ''));
    expect(app.logs.join('\n')).not.toContain(endpoint.secret.replace('whsec_', ''));
  });
});

/** Rows are numbered as they are written, events as they are told. */
async function skipAnId({ store, clock }: App): Promise<void> {
  const event = { type: 'never told', payload: '{}', created_at: clock.now() };
  await store.transaction((tx) => insertOutboxEvent(tx, event));
  await store.kysely.deleteFrom('outbox_events').where('type', '=', event.type).execute();
}

async function passHour(app: App): Promise<void> {
  app.clock.advance(3_600);
  await app.settled();
}

test('endpoints with nothing to deliver cost no write', async () => {
  await using receiver = await Receiver.start();
  await using app = await startOutboxApp({ engine: 'sqlite' });
  await addEndpoint(app, { url: receiver.url });
  await makeNews(app);
  await app.settled();
  receiver.behaviour = answer(503, { 'retry-after': '600' });
  await makeNews(app);
  await app.settled();
  const writes = async () =>
    (await sql<{ rows: number }>`select total_changes() as rows`.execute(app.store.kysely)).rows[0]?.rows;
  const before = await writes();
  for (let look = 0; look < 6; look += 1) {
    app.clock.advance(5);
    await app.settled();
  }
  expect(await writes()).toBe(before);
  expect(receiver.received).toHaveLength(2);
});

function numbers(ids: readonly string[]): number[] {
  return ids.map((id) => Number(id.replace('evt_', '')));
}

async function payOnce(app: App, token: string): Promise<void> {
  const admin = await app.admin();
  const tariff = { name: `Month ${Math.random()}`, duration_days: 30, price: '5.00' };
  const { body: sold } = await app.rest<{ id: number }>('POST', '/tariffs', { token: admin.token, body: tariff });
  const order = { tariff_id: sold.id, provider: 'standard' };
  const { body: payment } = await app.rest<{ reference: string }>('POST', '/payments', { token, body: order });
  const data = { reference: payment.reference, provider_payment_id: 'ch_1', amount: '5.00', currency: 'USD' };
  const told = await app.webhook({ type: 'payment.completed', data });
  expect(told.body).toEqual({ received: true, result: 'settled' });
}

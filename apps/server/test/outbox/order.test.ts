import { randomUUID } from 'node:crypto';
import {
  insertOutboxEvent,
  listPublishedEvents,
  openStore,
  publishOutboxEvents,
  purgeOutboxEvents,
  type Store,
} from '@vpn-api/db';
import { openTestStore } from '@vpn-api/db/testing';
import { OutboundGuard } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { OutboxLoops } from '../../src/jobs/outbox.ts';
import { WebhookSender } from '../../src/ops/send-webhook.ts';
import { engines } from '../harness.ts';
import { Receiver } from './receiver.ts';
import { addEndpoint, makeNews, startOutboxApp } from './world.ts';

const at = '2026-11-22T12:00:00.000Z';
const publish = (store: Store) => store.transaction((tx) => publishOutboxEvents(tx, 500));
const tell = (store: Store, type: string, meanwhile = async () => {}) =>
  store.transaction(async (tx) => {
    await insertOutboxEvent(tx, { type, payload: '{}', created_at: at });
    await meanwhile();
  });

test('on PostgreSQL a reader never misses an event that was committed after later ones', async () => {
  await using store = await openTestStore('postgres');
  const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
  const { promise: written, resolve: write } = Promise.withResolvers<void>();
  const slow = tell(store, 'slow', async () => {
    write();
    await held;
  });
  await written;
  await tell(store, 'quick');
  await publish(store);
  const seen = await listPublishedEvents(store, {});
  expect(seen.map(({ type }) => type)).toEqual(['quick']);
  letGo();
  await slow;
  await publish(store);
  const more = await listPublishedEvents(store, {}, { after: seen.at(-1)?.position });
  expect(more.map(({ type }) => type)).toEqual(['slow']);
  // Drawn first, and yet behind.
  expect(more[0]?.id).toBeLessThan(seen[0]?.id ?? 0);
});

describe.each(engines)('the public order on %s', (engine) => {
  test('has no gap and no place twice when many publish at once', async () => {
    await using store = await openTestStore(engine, { file: true });
    await Promise.all(
      Array.from({ length: 40 }, async (_, n) => {
        await tell(store, `event ${n}`);
        await publish(store);
      }),
    );
    const places = (await listPublishedEvents(store, {})).map(({ position }) => position);
    expect(places).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
  });

  test('goes on counting when old events were deleted', async () => {
    await using store = await openTestStore(engine);
    for (const type of ['a', 'b', 'c']) await tell(store, type);
    await publish(store);
    const before = '2027-01-01T00:00:00.000Z';
    expect(await purgeOutboxEvents(store, { before, onceBefore: before })).toBe(2);
    await tell(store, 'd');
    await publish(store);
    expect((await listPublishedEvents(store, {})).map(({ position }) => position)).toEqual([3, 4]);
  });

  test('is what GET /events pages by, for a service with the scope', async () => {
    await using app = await startOutboxApp({ engine });
    await makeNews(app, 5);
    await app.settled();
    const key = await app.apiKey(['events:read']);
    const read = async (query: string) =>
      (await app.rest<{ id: number; type: string }[]>('GET', `/events?${query}`, { token: key })).body;
    const first = await read('limit=2');
    const rest = await read(`after_id=${first.at(-1)?.id}`);
    const ids = [...first, ...rest].map(({ id }) => id);
    expect(ids).toEqual(ids.map((_, n) => n + 1));
    expect(await read('type=payment.completed')).toEqual([]);
    const other = await app.apiKey(['users:read']);
    expect((await app.rest('GET', '/events', { token: other })).status).toBe(403);
  });

  test('an event is told at most once under one dedupe key', async () => {
    await using store = await openTestStore(engine);
    const dedupe_key = randomUUID();
    const once = () =>
      store.transaction((tx) => insertOutboxEvent(tx, { type: 'a', payload: '{}', created_at: at, dedupe_key }));
    expect([await once(), await once()]).toEqual([true, false]);
  });
});

describe('two instances on one PostgreSQL', () => {
  test('deliver each event in order and leave an endpoint to the one that works on it', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine: 'postgres' });
    await addEndpoint(app, { url: receiver.url });
    const { services } = app;
    const url = services.config.database.engine === 'postgres' ? services.config.database.url : '';
    await using otherStore = await openStore(url);
    await using sender = new WebhookSender(new OutboundGuard(['127.0.0.0/8']));
    await using other = new OutboxLoops({ ...services, store: otherStore, instanceId: 'other', sender });
    await other.start();
    for (let n = 0; n < 10; n += 1) {
      await makeNews(app, 3);
      other.wake();
    }
    await app.settled();
    await other.idle();
    app.clock.advance(31);
    await app.settled();
    const ids = receiver.received.map(({ id }) => Number(id.replace('evt_', '')));
    expect(ids).toEqual(ids.map((_, n) => (ids[0] ?? 0) + n));
    expect(ids).toHaveLength(30);
  });

  test('one that died while it sent leaves the event to the other, which sends it again under the same id', async () => {
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine: 'postgres' });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    const { services } = app;
    const url = services.config.database.engine === 'postgres' ? services.config.database.url : '';
    await using otherStore = await openStore(url);
    // It has the lease, sent the event, and recorded nothing.
    await otherStore.kysely
      .updateTable('webhook_endpoints')
      .set({ lease_owner: 'dead', lease_until: new Date(Date.parse(services.clock.now()) + 30_000).toISOString() })
      .where('id', '=', endpoint.id)
      .execute();
    await makeNews(app);
    await app.settled();
    expect(receiver.received).toEqual([]);
    app.clock.advance(31);
    await app.settled();
    expect(receiver.received).toHaveLength(1);
  });
});

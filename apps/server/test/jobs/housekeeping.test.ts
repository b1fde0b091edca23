import {
  addPeerUsage,
  claimIdempotencyKey,
  findIdempotencyKey,
  findWebhookEndpoint,
  insertOutboxEvent,
  insertSession,
  insertWebhookDeliveries,
  insertWebhookEndpoint,
  listPeerUsage,
  listPublishedEvents,
  type NewWebhookEndpoint,
  publishOutboxEvents,
  recordAttempt,
  type Store,
} from '@vpn-api/db';
import { openTestStore } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds, DAY_SECONDS } from '../../src/domain/instant.ts';
import { utcDay } from '../../src/domain/traffic.ts';
import { Housekeeping } from '../../src/jobs/housekeeping.ts';
import { createLogger } from '../../src/obs/log.ts';
import { engines, START } from '../harness.ts';
import { ManualClock } from '../manual-clock.ts';
import { World } from '../reconcile/world.ts';

describe.each(engines)('housekeeping on %s', (engine) => {
  test('forgets idempotency keys when they expire, however many, and keeps the others', async () => {
    await using world = await World.start({ engine });
    const now = world.app.clock.now();
    const claim = (key: string, seconds: number) =>
      claimIdempotencyKey(world.store, {
        actor: 'user:1',
        procedure: 'peer.create',
        key,
        request_hash: 'hash',
        lease_until: now,
        created_at: now,
        expires_at: addSeconds(now, seconds),
      });
    for (let key = 0; key < 1100; key += 1) await claim(`old ${key}`, 60);
    await claim('young', 61);
    await tidy(world, 60);
    expect(await world.store.kysely.selectFrom('idempotency_keys').selectAll().execute()).toHaveLength(1);
    const young = { actor: 'user:1', procedure: 'peer.create', key: 'young' };
    expect(await findIdempotencyKey(world.store, young)).toBeDefined();
  });

  test('forgets logins a day after their last token ended', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer();
    const created_at = world.app.clock.now();
    const expires_at = addSeconds(created_at, 3600);
    await world.store.transaction((tx) =>
      insertSession(tx, { user_id: user.id, token_hash: 'h', created_at, expires_at }),
    );
    const sessions = () => world.store.kysely.selectFrom('sessions').selectAll().execute();
    await tidy(world, DAY_SECONDS + 3600);
    expect(await sessions()).toHaveLength(1);
    await tidy(world, 1);
    expect(await sessions()).toHaveLength(0);
  });

  test('frees addresses when they have rested', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    await world.remove(device);
    await world.app.settled();
    await tidy(world, 599);
    expect(await world.row(device.peer.id)).toMatchObject({ address_index: 2 });
    await tidy(world, 1);
    expect(await world.row(device.peer.id)).toMatchObject({ address_index: null });
  });

  test('keeps the traffic of 400 days', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    const today = Date.parse(world.app.clock.now());
    const days = Array.from({ length: 1100 }, (_, ago) => new Date(today - ago * DAY_SECONDS * 1000).toISOString());
    await world.store.transaction(async (tx) => {
      for (const at of days) await addPeerUsage(tx, utcDay(at), [{ peer_id: peer.id, rx_bytes: 1, tx_bytes: 1 }]);
    });
    await tidy(world, 0);
    const kept = await listPeerUsage(world.store, peer.id);
    expect(kept.map(({ day }) => day)).toEqual(days.slice(0, 401).map(utcDay).toReversed());
  });

  describe('of outgoing events', () => {
    /** Three events of which the first two are old enough to go; the last always stays. */
    async function told(store: Store, at: string): Promise<number[]> {
      for (const type of ['a', 'b', 'c']) {
        await store.transaction((tx) => insertOutboxEvent(tx, { type, payload: '{}', created_at: at }));
      }
      await store.transaction((tx) => publishOutboxEvents(tx, 500));
      return (await listPublishedEvents(store, {})).map(({ id }) => id);
    }

    const endpoint = (store: Store, columns: Partial<NewWebhookEndpoint> & { readonly created_at: string }) =>
      store.transaction((tx) =>
        insertWebhookEndpoint(tx, { url: 'https://example.com/', types: null, secrets_sealed: '', ...columns }),
      );

    async function tidyStore(store: Store, now: string): Promise<void> {
      const log = createLogger({ level: 'error', write: () => {} });
      await using housekeeping = new Housekeeping({ store, clock: new ManualClock(now), log });
      housekeeping.wake();
      await housekeeping.idle();
    }

    test('keeps what an endpoint has still to see, unless it has been disabled for 30 days', async () => {
      await using store = await openTestStore(engine);
      await told(store, addSeconds(START, -40 * DAY_SECONDS));
      const { id } = await endpoint(store, { created_at: START, disabled_at: START });
      await tidyStore(store, addSeconds(START, 30 * DAY_SECONDS));
      expect(await listPublishedEvents(store, {})).toHaveLength(3);
      await tidyStore(store, addSeconds(START, 30 * DAY_SECONDS + 1));
      expect(await listPublishedEvents(store, {})).toHaveLength(1);
      expect(await findWebhookEndpoint(store, id)).toBeDefined();
    });

    test('forgets deliveries of endpoints that are gone after 30 days, and what died after 90', async () => {
      await using store = await openTestStore(engine);
      const [eventId = 0] = await told(store, START);
      const gone = [{ removed_at: START }, { disabled_at: START }];
      const endpoints = [];
      for (const columns of [{}, ...gone]) endpoints.push(await endpoint(store, { created_at: START, ...columns }));
      for (const { id: endpointId } of endpoints) {
        await store.transaction((tx) => insertWebhookDeliveries(tx, { endpointId, eventIds: [eventId], at: START }));
      }
      const rows = () => store.kysely.selectFrom('webhook_deliveries').selectAll().execute();
      await tidyStore(store, addSeconds(START, 30 * DAY_SECONDS));
      expect(await rows()).toHaveLength(3);
      await tidyStore(store, addSeconds(START, 30 * DAY_SECONDS + 1));
      expect(await rows()).toMatchObject([{ endpoint_id: endpoints[0]?.id, status: 'pending' }]);
      for (const { id, attempts } of await rows()) await recordAttempt(store, { id, attempts }, { status: 'dead' });
      await tidyStore(store, addSeconds(START, 90 * DAY_SECONDS));
      expect(await rows()).toHaveLength(1);
      await tidyStore(store, addSeconds(START, 90 * DAY_SECONDS + 1));
      expect(await rows()).toEqual([]);
    });
  });

  test('is done every minute', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    await world.remove(device);
    await world.app.settled();
    await using housekeeping = new Housekeeping(world.services);
    housekeeping.wake();
    await housekeeping.idle();
    for (let minute = 0; minute < 10; minute += 1) {
      world.app.clock.advance(60);
      await housekeeping.idle();
    }
    expect(await world.row(device.peer.id)).toMatchObject({ address_index: null });
  });
});

async function tidy(world: World, seconds: number): Promise<void> {
  await world.pass(seconds);
  await using housekeeping = new Housekeeping(world.services);
  housekeeping.wake();
  await housekeeping.idle();
}

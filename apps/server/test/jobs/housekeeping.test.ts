import { addPeerUsage, claimIdempotencyKey, findIdempotencyKey, insertSession, listPeerUsage } from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { addSeconds, DAY_SECONDS } from '../../src/domain/instant.ts';
import { utcDay } from '../../src/domain/traffic.ts';
import { Housekeeping } from '../../src/jobs/housekeeping.ts';
import { engines } from '../harness.ts';
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

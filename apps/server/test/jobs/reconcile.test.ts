import { once } from 'node:events';
import { claimLease, insertServer, listServers, updateServer } from '@vpn-api/db';
import { FakeHost } from '@vpn-api/wg';
import { describe, expect, test, vi } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { ReconcileLoops } from '../../src/jobs/reconcile.ts';
import { engines } from '../harness.ts';
import { World } from '../reconcile/world.ts';

describe.each(engines)('the reconciler on %s', (engine) => {
  test('compares every host in its interval, and sooner when it is woken', async () => {
    await using world = await World.start({ engine, env: { RECONCILE_INTERVAL_SECONDS: '30' } });
    const lists = () => world.host.calls.filter(({ method }) => method === 'list').length;
    const atStart = lists();
    await world.pass(29);
    expect(lists()).toBe(atStart);
    await world.pass(1);
    expect(lists()).toBe(atStart + 1);
    await world.wake();
    expect(lists()).toBe(atStart + 2);
  });

  test('lets no slow host delay another, and stops at once while one hangs', async () => {
    await using world = await World.start({ engine });
    const slow = await addServer(world, 'slow');
    const hanging = new FakeHost();
    hanging.fault = 'hang';
    world.hosts.set(slow.id, hanging);
    world.services.reconciler.wake();
    await vi.waitUntil(() => hanging.calls.length > 0);
    const { peer } = await world.create(await world.customer(), { serverId: (await world.server()).id });
    await vi.waitUntil(() => world.isOnHost(peer.public_key));
    expect(hanging.calls).toHaveLength(1);
  });

  test('goes on without a pause with what did not fit into the time of one pass', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const devices = [await world.device(), await world.device(), await world.device()];
    world.host.fault = null;
    const driver = world.host.driver();
    const apply: typeof driver.apply = async (changes, signal) => {
      const results = await driver.apply(changes.slice(0, 1), new AbortController().signal);
      world.app.clock.advance(3);
      if (changes.length > 1 && !signal.aborted) await once(signal, 'abort');
      return [...results, ...changes.slice(1).map(() => ({ outcome: 'failed', message: 'too late' }) as const)];
    };
    const timeouts = { listMs: 10_000, applyMs: 20 };
    const driverFor = () => ({ ...driver, apply });
    await using loops = new ReconcileLoops({ ...world.services, instanceId: 'test', driverFor, timeouts });
    await updateServer(world.store, (await world.server()).id, { next_attempt_at: null });
    await loops.start();
    await loops.idle();
    expect(world.keysOnHost()).toEqual(new Set(devices.map(({ peer }) => peer.public_key)));
  });

  test('finds a server that was added meanwhile', async () => {
    await using world = await World.start({ engine });
    const added = await addServer(world, 'added');
    await world.pass(60);
    expect((await listServers(world.store)).find(({ id }) => id === added.id)).toMatchObject({
      last_seen_at: world.app.clock.now(),
    });
  });

  test('is not ready before it started, nor while a loop is stuck', async () => {
    await using world = await World.start({ engine });
    const host = new FakeHost();
    await using loops = new ReconcileLoops({ ...world.services, instanceId: 'test', driverFor: () => host.driver() });
    expect(await loops.health()).toBe('not started');
    await loops.start();
    await loops.idle();
    expect(await loops.health()).toBeUndefined();
    host.fault = 'hang';
    loops.wake();
    world.app.clock.advance(181);
    expect(await loops.health()).toBe('stuck on 1 of 1 servers');
  });

  test('is ready while a host is down: that is no reason to take the API away', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    for (let minute = 0; minute < 10; minute += 1) await world.pass(60);
    expect(await world.app.server.reconciler.health()).toBeUndefined();
  });

  test('comes back after an error of its own', async () => {
    await using world = await World.start({ engine });
    let isBroken = true;
    const driverFor = () => {
      if (isBroken) throw new Error('a bug');
      return world.host.driver();
    };
    await using loops = new ReconcileLoops({ ...world.services, instanceId: 'test', driverFor });
    await loops.start();
    await loops.idle();
    expect(world.app.logs.filter((line) => line.includes('a pass over a host failed'))).toHaveLength(1);
    isBroken = false;
    const calls = world.host.calls.length;
    world.app.clock.advance(5);
    await loops.idle();
    expect(world.host.calls.length).toBeGreaterThan(calls);
  });
});

test('the one process of an embedded database does not wait for the lease of its dead predecessor', async () => {
  await using world = await World.start({ engine: 'sqlite' });
  const { id: serverId } = await world.server();
  const now = world.app.clock.now();
  const claim = { serverId, owner: 'killed', now, until: addSeconds(now, 10), latest: addSeconds(now, 70) };
  expect(await claimLease(world.store, claim)).toBeDefined();
  await using loops = new ReconcileLoops({
    ...world.services,
    instanceId: 'next',
    driverFor: () => world.host.driver(),
  });
  const calls = world.host.calls.length;
  await loops.start();
  await loops.idle();
  expect(world.host.calls.length).toBeGreaterThan(calls);
});

async function addServer(world: World, name: string) {
  const columns = { driver: 'local', keys: 'given', mode: 'apply', origin: 'api' } as const;
  const created_at = world.app.clock.now();
  return insertServer(world.store, { ...columns, name, pool_v4: '10.9.0.0/24', created_at });
}

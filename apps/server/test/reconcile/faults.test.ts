import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { claimLease, findServer, type Store, updateServer } from '@vpn-api/db';
import type { FakeFault, WgDriver } from '@vpn-api/wg';
import { describe, expect, test, vi } from 'vitest';
import { addSeconds, type Instant, secondsBetween } from '../../src/domain/instant.ts';
import { type Pass, type ReconcileDeps, reconcileServer } from '../../src/ops/reconcile-server.ts';
import { rotatePeer } from '../../src/ops/rotate-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit, World } from './world.ts';

/** No host comes back later than this after its last failure. */
const BACK_IN_USE_SECONDS = 60;

describe.each(engines)('after a fault the host converges, on %s', (engine) => {
  test.each<FakeFault>(['down', 'refuse', 'lose_answer', 'drop_changes'])('%s', async (fault) => {
    await using world = await World.start({ engine });
    const kept = await world.device();
    const [removed, rotated] = [await world.device(), await world.device()];
    world.host.fault = fault;
    const added = await world.device();
    await world.remove(removed);
    await rotatePeer(world.services, world.request(rotated), { publicKey: null, beforeCommit });
    await world.pass(30);
    await world.pass(90);
    world.host.fault = null;
    await world.pass(BACK_IN_USE_SECONDS);
    const wanted = [kept, added, rotated].map(({ peer }) => world.row(peer.id));
    expect(world.keysOnHost()).toEqual(new Set((await Promise.all(wanted)).map((peer) => peer.public_key)));
    for (const { peer } of [kept, added, rotated]) expect((await world.judged(peer.id)).state).toBe('active');
    expect(await world.row(removed.peer.id)).toMatchObject({ applied_state: 'absent' });
    expect(await world.server()).toMatchObject({ last_error: null, attempts: 0, pending_changes: 0 });
  });

  test('of a host that is down: the peers stay pending, and the server says why', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const { peer } = await world.device();
    expect(await world.judged(peer.id)).toMatchObject({ state: 'pending', peer: { last_error: null } });
    const server = await world.server();
    expect(server).toMatchObject({ attempts: 1, last_error: 'unreachable: the fake host is down' });
    expect(Date.parse(server.next_attempt_at ?? '')).toBeGreaterThan(Date.parse(world.app.clock.now()));
    const calls = world.host.calls.length;
    await world.wake();
    expect(world.host.calls).toHaveLength(calls);
    for (let minute = 0; minute < 10; minute += 1) await world.pass(60);
    const wait = Date.parse((await world.server()).next_attempt_at ?? '') - Date.parse(world.app.clock.now());
    expect(wait).toBeLessThanOrEqual(BACK_IN_USE_SECONDS * 1000);
  });

  test('of a host that is down for long: the log says once that it is, and once that it is back', async () => {
    await using world = await World.start({ engine });
    const said = (text: string) => world.app.logs.filter((line) => line.includes(text)).length;
    world.host.fault = 'down';
    for (let minute = 0; minute < 10; minute += 1) await world.pass(60);
    expect(await world.server()).toMatchObject({ attempts: 10 });
    expect([said('could not be compared'), said('the host is back')]).toEqual([1, 0]);
    world.host.fault = null;
    await world.pass(60);
    await world.pass(60);
    expect([said('could not be compared'), said('the host is back')]).toEqual([1, 1]);
  });

  test('of one change: its peer says so, the others are done', async () => {
    await using world = await World.start({ engine });
    const driver = world.host.driver();
    const refusing = {
      ...driver,
      apply: async (changes: Parameters<typeof driver.apply>[0], signal: AbortSignal) => {
        const results = await driver.apply(changes.slice(1), signal);
        return [{ outcome: 'failed', message: 'no room' } as const, ...results];
      },
    };
    world.host.fault = 'down';
    const [first, second] = [await world.device(), await world.device()];
    world.host.fault = null;
    await world.app.clock.advance(0);
    await retried(world);
    await reconcile(world, { driverFor: () => refusing });
    expect(await world.judged(first.peer.id)).toMatchObject({ state: 'failed', peer: { last_error: 'no room' } });
    expect(await world.judged(second.peer.id)).toMatchObject({ state: 'active' });
    await world.pass(BACK_IN_USE_SECONDS);
    expect(await world.judged(first.peer.id)).toMatchObject({ state: 'active', peer: { last_error: null } });
  });

  test('a peer that is gone from the host and cannot be set again is not called active', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    const driver = world.host.driver();
    const apply = async (changes: readonly unknown[]) =>
      changes.map(() => ({ outcome: 'failed', message: 'no' }) as const);
    world.deleteFromHost(peer.public_key);
    await reconcile(world, { driverFor: () => ({ ...driver, apply }) });
    expect(await world.judged(peer.id)).toMatchObject({ state: 'failed', peer: { applied_state: 'none' } });
    await world.pass(BACK_IN_USE_SECONDS);
    expect(await world.judged(peer.id)).toMatchObject({ state: 'active' });
  });

  test('what a slow host did not get to in one pass waits for the next, which goes on at once: nobody was refused', async () => {
    await using world = await World.start({ engine });
    const gone = await world.device();
    world.host.fault = 'down';
    const waiting = [await world.device(), await world.device(), await world.device(), await world.device()];
    world.host.fault = null;
    world.deleteFromHost(gone.peer.public_key);
    await retried(world);
    const slow = slowDriver(world, 2);
    const pass = await reconcile(world, { driverFor: () => slow, timeouts: { listMs: 10_000, applyMs: 20 } });
    expect(pass).toMatchObject({ outcome: 'applied', goesOn: true, nextAt: world.app.clock.now() });
    const judged = await Promise.all([gone, ...waiting].map(({ peer }) => world.judged(peer.id)));
    expect(judged.map(({ state }) => state)).toEqual(['active', 'active', 'pending', 'pending', 'pending']);
    for (const { peer } of judged) expect(peer).toMatchObject({ last_error: null, attempts: 0 });
    expect(await world.server()).toMatchObject({ pending_changes: 3, last_error: null });
  });

  test('what a host that was lost half-way did not get to stays pending, and is looked at again soon', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const devices = [await world.device(), await world.device(), await world.device()];
    world.host.fault = null;
    await retried(world);
    const driver = world.host.driver();
    const lost = { outcome: 'failed', message: 'no connection', hostLost: true } as const;
    const apply: typeof driver.apply = async ([first, ...rest], signal) => {
      const done = first === undefined ? [] : await driver.apply([first], signal);
      return [...done, ...rest.map(() => lost)];
    };
    const pass = await reconcile(world, { driverFor: () => ({ ...driver, apply }) });
    const judged = await Promise.all(devices.map(({ peer }) => world.judged(peer.id)));
    expect(judged.map(({ state }) => state)).toEqual(['active', 'pending', 'pending']);
    for (const { peer } of judged) expect(peer).toMatchObject({ last_error: null, attempts: 0 });
    expect(secondsBetween(world.app.clock.now(), pass.nextAt as Instant)).toBeLessThanOrEqual(2);
    await reconcile(world);
    expect(world.keysOnHost().size).toBe(3);
  });

  test('a peer that is gone from a slow host is not called active before it is there again', async () => {
    await using world = await World.start({ engine });
    const devices = [await world.device(), await world.device(), await world.device()];
    for (const { peer } of devices) world.deleteFromHost(peer.public_key);
    const slow = slowDriver(world, 1);
    await reconcile(world, { driverFor: () => slow, timeouts: { listMs: 10_000, applyMs: 20 } });
    const states = devices.map(async ({ peer }) => (await world.judged(peer.id)).state);
    expect(await Promise.all(states)).toEqual(['active', 'pending', 'pending']);
  });

  test.each(['list', 'apply'] as const)('a host that hangs in %s is given up in time', async (method) => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const { peer } = await world.device();
    world.host.fault = null;
    await retried(world);
    const driver = world.host.driver();
    const hanging = {
      ...driver,
      [method]: (...args: unknown[]) => {
        world.host.failNext('hang');
        return (driver[method] as (...all: unknown[]) => unknown)(...args);
      },
    };
    const pass = await reconcile(world, { driverFor: () => hanging, timeouts: { listMs: 20, applyMs: 20 } });
    expect(pass.outcome).toBe('failed');
    expect(await world.server()).toMatchObject({ last_error: expect.stringMatching(/^timeout: /) });
    await world.pass(BACK_IN_USE_SECONDS);
    expect(world.isOnHost(peer.public_key)).toBe(true);
  });
});

describe.each(engines)('a crash on %s', (engine) => {
  test('after the host did the work and before it is recorded is made up for by the next pass', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const [added, removed] = [await world.device(), await world.device()];
    await world.remove(removed);
    world.host.fault = null;
    await retried(world);
    await expect(reconcile(world, { store: dyingStore(world.store, 2) })).rejects.toThrow('crash');
    expect(world.isOnHost(added.peer.public_key)).toBe(true);
    expect(await world.judged(added.peer.id)).toMatchObject({ state: 'pending' });
    const pass = await reconcile(world);
    expect(pass).toMatchObject({ outcome: 'applied', changes: 0 });
    expect(await world.judged(added.peer.id)).toMatchObject({ state: 'active' });
    expect(await world.row(removed.peer.id)).toMatchObject({ applied_state: 'absent' });
  });

  test('between the claim of a key and the host leaves nothing to clean up', async () => {
    await using world = await World.start({ engine });
    world.host.fault = 'down';
    const device = await world.device();
    world.host.fault = null;
    await retried(world);
    const apply = async (): Promise<never> => Promise.reject(new Error('crash'));
    await expect(reconcile(world, { driverFor: () => ({ ...world.host.driver(), apply }) })).rejects.toThrow('crash');
    await world.remove(device);
    await world.app.settled();
    expect(world.host.peers()).toEqual([]);
    expect(await world.row(device.peer.id)).toMatchObject({ applied_state: 'absent' });
  });
});

describe.each(engines)('two processes on %s', (engine) => {
  test('never work on one host at once: the second comes back soon', async () => {
    await using world = await World.start({ engine });
    await holdLease(world, 'another process');
    const pass = await reconcile(world);
    const nextAt = addSeconds(world.app.clock.now(), 0.5);
    expect(pass).toEqual({ outcome: 'busy', changes: 0, nextAt });
  });

  test('of which one dies are followed by the other when its lease has run out', async () => {
    await using world = await World.start({ engine });
    await holdLease(world, 'a process that died');
    const { peer } = await world.device();
    expect(world.isOnHost(peer.public_key)).toBe(false);
    for (let halfSecond = 0; halfSecond < 20; halfSecond += 1) await world.pass(0.5);
    expect(world.isOnHost(peer.public_key)).toBe(true);
  });

  test('of which the slower one lost its lease: it records nothing of what it saw', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    world.deleteFromHost(peer.public_key);
    const driver = world.host.driver();
    const apply: typeof driver.apply = async (changes, signal) => {
      world.app.clock.advance(3600);
      await holdLease(world, 'the faster one');
      return driver.apply(changes, signal);
    };
    const before = await world.server();
    await updateServer(world.store, before.id, { pending_changes: 77 });
    await reconcile(world, { driverFor: () => ({ ...driver, apply }) });
    expect(await world.server()).toMatchObject({ pending_changes: 77, last_seen_at: before.last_seen_at });
  });

  test('renew the lease while a slow host works, so that nobody takes over', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    world.deleteFromHost(peer.public_key);
    const driver = world.host.driver();
    const claims: unknown[] = [];
    const apply: typeof driver.apply = async (changes, signal) => {
      for (let beat = 0; beat < 6; beat += 1) {
        const before = await leaseEnd(world);
        world.app.clock.advance(4);
        await vi.waitUntil(async () => (await leaseEnd(world)) !== before);
        await setImmediate();
        claims.push(await holdLease(world, 'an impatient one'));
      }
      return driver.apply(changes, signal);
    };
    const pass = await reconcile(world, { driverFor: () => ({ ...driver, apply }) });
    expect(claims).toEqual(Array.from({ length: 6 }, () => undefined));
    expect(pass.outcome).toBe('applied');
  });

  test('of which one lost its database: it stops changing the host before the other may begin', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    world.deleteFromHost(peer.public_key);
    const driver = world.host.driver();
    let isCut = false;
    const apply: typeof driver.apply = async (changes, signal) => {
      isCut = true;
      for (let second = 0; !signal.aborted && second < 60; second += 1) {
        world.app.clock.advance(1);
        await setImmediate();
      }
      isCut = false;
      expect(await holdLease(world, 'an impatient one')).toBeUndefined();
      return driver.apply(changes, signal);
    };
    const store = cutStore(world.store, () => isCut);
    const pass = await reconcile(world, { store, driverFor: () => ({ ...driver, apply }) });
    expect(pass).toMatchObject({ outcome: 'busy', nextAt: addSeconds(world.app.clock.now(), 0.5) });
    expect(world.isOnHost(peer.public_key)).toBe(false);
    expect(await world.server()).toMatchObject({ attempts: 0, last_error: null });
  });

  test('of which one loses its database for a moment: it goes on', async () => {
    await using world = await World.start({ engine });
    const { peer } = await world.device();
    world.deleteFromHost(peer.public_key);
    const driver = world.host.driver();
    let isCut = false;
    const apply: typeof driver.apply = async (changes, signal) => {
      isCut = true;
      world.app.clock.advance(5);
      await setImmediate();
      isCut = false;
      const before = await leaseEnd(world);
      world.app.clock.advance(2);
      await vi.waitUntil(async () => (await leaseEnd(world)) !== before);
      await setImmediate();
      world.app.clock.advance(3);
      return driver.apply(changes, signal);
    };
    const store = cutStore(world.store, () => isCut);
    const pass = await reconcile(world, { store, driverFor: () => ({ ...driver, apply }) });
    expect(pass.outcome).toBe('applied');
    expect(world.isOnHost(peer.public_key)).toBe(true);
  });

  test('are not held up by a lease or a back-off of the future, left by a clock that was wrong', async () => {
    await using world = await World.start({ engine });
    const { id } = await world.server();
    const future = addSeconds(world.app.clock.now(), 86_400);
    const lease = { serverId: id, owner: 'a wrong clock', now: future, until: addSeconds(future, 10), latest: future };
    await claimLease(world.store, lease);
    await updateServer(world.store, id, { next_attempt_at: future });
    const { peer } = await world.device();
    expect(world.isOnHost(peer.public_key)).toBe(true);
  });
});

/** One pass of another process, with parts of it replaced. */
async function reconcile(world: World, overrides: Partial<ReconcileDeps> = {}): Promise<Pass> {
  const driver = world.host.driver();
  const deps = { ...world.services, instanceId: 'test', driverFor: () => driver, ...overrides };
  return reconcileServer(deps, (await world.server()).id, { signal: new AbortController().signal });
}

/** Makes so many changes, and is at the next one when the time of the pass is over. */
function slowDriver(world: World, count: number): WgDriver {
  const driver = world.host.driver();
  const late = { outcome: 'failed', message: 'the host did not get that far' } as const;
  return {
    ...driver,
    apply: async (changes, signal) => {
      const results = await driver.apply(changes.slice(0, count), new AbortController().signal);
      if (changes.length > count && !signal.aborted) await once(signal, 'abort');
      return [...results, ...changes.slice(count).map(() => late)];
    },
  };
}

/** Ends the back-off, as time would. */
async function retried(world: World): Promise<void> {
  await updateServer(world.store, (await world.server()).id, { next_attempt_at: null });
}

async function holdLease(world: World, owner: string): Promise<number | undefined> {
  const now = world.app.clock.now();
  const { id: serverId } = await world.server();
  return claimLease(world.store, { serverId, owner, now, until: addSeconds(now, 10), latest: addSeconds(now, 70) });
}

async function leaseEnd(world: World): Promise<string | null | undefined> {
  return (await findServer(world.store, (await world.server()).id))?.lease_until;
}

/** Loses its process in the middle of the nth transaction. */
function dyingStore(store: Store, nth: number): Store {
  let count = 0;
  return new Proxy(store, {
    get(target, name) {
      if (name !== 'transaction') {
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return (work: Parameters<Store['transaction']>[0]) => {
        count += 1;
        if (count < nth) return target.transaction(work);
        return target.transaction(async (tx) => {
          await work(tx);
          throw new Error('crash');
        });
      };
    },
  });
}

/** A database that cannot be reached while it is cut off. */
function cutStore(store: Store, isCut: () => boolean): Store {
  return new Proxy(store, {
    get(target, name) {
      if (isCut()) throw new Error('the database does not answer');
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

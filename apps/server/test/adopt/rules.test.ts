import { findServer, listHostPeers, listPeersForUser, type UserRow, updateServer } from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { type AdoptPeers, adoptPeers, NotObservedError } from '../../src/ops/adopt-peers.ts';
import { runDoctor } from '../../src/ops/doctor.ts';
import { engines } from '../harness.ts';
import { World } from '../reconcile/world.ts';

/** Adopts everything that is on the host for one user. Answers what became of it, by address. */
async function adoptFor(
  world: World,
  { id }: UserRow,
  more: Partial<AdoptPeers> = {},
): Promise<Record<string, string>> {
  const server = await findServer(world.store, 1);
  if (server === undefined) throw new Error('no server');
  const adoptions = await adoptPeers(world.services, {
    ...{ server, driver: world.host.driver(), createUsers: false, apply: true, signal: AbortSignal.timeout(10_000) },
    source: { actor: 'cli', ip: '', request_id: '' },
    ownersOf: (observed) => new Map(observed.map(({ publicKey }) => [publicKey, { userId: id }])),
    ...more,
  });
  return Object.fromEntries(adoptions.map(({ peer, outcome }) => [peer.allowedIps.join(), outcome]));
}

async function openWorld(engine: (typeof engines)[number]): Promise<World> {
  const world = await World.start({ engine });
  await updateServer(world.store, 1, { mode: 'observe' });
  return world;
}

describe.each(engines)('peers that are adopted on %s', (engine) => {
  test('wait until the address that a device of ours had has rested', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    await world.remove(device);
    await world.pass(1);
    await updateServer(world.store, 1, { mode: 'observe' });
    const address = device.peer.wg_ip ?? '';
    world.host.addForeignPeer([address]);
    const user = await world.customer();
    for (const apply of [false, true]) {
      expect(await adoptFor(world, user, { apply })).toEqual({ [address]: 'address_conflict' });
    }
    // Given back by the hourly housekeeping, once it has rested.
    await world.pass(3_600);
    expect(await adoptFor(world, user)).toEqual({ [address]: 'adopted' });
  });

  test('are not held up by a server that is full: they are there already', async () => {
    await using world = await openWorld(engine);
    await updateServer(world.store, 1, { capacity: 1 });
    for (const last of [5, 6]) world.host.addForeignPeer([`10.8.0.${last}/32`]);
    const user = await world.customer({ devices: 2 });
    expect(await adoptFor(world, user)).toEqual({ '10.8.0.5/32': 'adopted', '10.8.0.6/32': 'adopted' });
    await expect(world.create(await world.customer())).rejects.toMatchObject({ code: 'no_capacity' });
  });

  test('are left as they are when somebody applies the plan in between', async () => {
    await using world = await openWorld(engine);
    for (const last of [5, 6]) world.host.addForeignPeer([`10.8.0.${last}/32`]);
    const user = await world.customer({ devices: 2 });
    const driver = world.host.driver();
    const list = driver.list.bind(driver);
    const switching = Object.assign(driver, {
      list: async (signal: AbortSignal) => {
        await updateServer(world.store, 1, { mode: 'apply' });
        return list(signal);
      },
    });
    await expect(adoptFor(world, user, { driver: switching })).rejects.toThrow(NotObservedError);
    expect(await listPeersForUser(world.store, user.id)).toEqual([]);
    expect(await listHostPeers(world.store, 1)).toEqual([]);
  });

  test('are all of the one who was first when two adopt at once, and the books stay right', async () => {
    await using world = await openWorld(engine);
    for (let last = 5; last < 25; last += 1) world.host.addForeignPeer([`10.8.0.${last}/32`]);
    const users = [await world.customer({ devices: 20 }), await world.customer({ devices: 20 })];
    const outcomes = await Promise.all(users.map((user) => adoptFor(world, user)));
    const adopted = outcomes.flatMap((one) => Object.entries(one).filter(([, outcome]) => outcome === 'adopted'));
    expect(adopted.map(([address]) => address).sort()).toEqual(Object.keys(outcomes[0] ?? {}).sort());
    const others = new Set(outcomes.flatMap((one) => Object.values(one)));
    expect([...others].every((outcome) => ['adopted', 'key_conflict', 'ours'].includes(outcome))).toBe(true);
    await updateServer(world.store, 1, { mode: 'apply' });
    expect(await world.services.hosts.compare(1, { acceptedRemovals: 0 })).toMatchObject({
      outcome: 'applied',
      changes: 0,
    });
    const findings = await runDoctor(world.store, { now: world.app.clock.now() });
    expect(findings.filter(({ invariant }) => ['I6', 'I7', 'I8', 'I10'].includes(invariant))).toEqual([]);
  });

  test('leave alone a key that was ours once and came back: the plan takes it off again', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    const [onHost] = world.host.peers();
    if (onHost === undefined) throw new Error('no peer');
    await world.remove(device);
    await world.pass(1);
    await updateServer(world.store, 1, { mode: 'observe' });
    world.host.put(onHost);
    const user = await world.customer();
    expect(await adoptFor(world, user)).toEqual({ [onHost.allowedIps.join()]: 'ours' });
    expect(await listPeersForUser(world.store, user.id)).toEqual([]);
  });
});

import { updateServer, updateUser } from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { DAY_SECONDS } from '../../src/domain/instant.ts';
import { reconcileServer } from '../../src/ops/reconcile-server.ts';
import { engines } from '../harness.ts';
import { type Device, World } from './world.ts';

const PEERS = 20;
/** More than ten, and more than a fifth. */
const MANY = 11;

describe.each(engines)('the brake on %s', (engine) => {
  test('stops a pass that would take many peers for no scheduled reason, says so once, and asks', async () => {
    await using world = await crowdedWorld(engine);
    await loseAccess(world, MANY);
    await world.pass(60);
    await world.pass(60);
    expect(world.keysOnHost().size).toBe(PEERS);
    expect(await world.server()).toMatchObject({
      brake_reason: 'would take 11 of 20 peers off the host',
      pending_changes: MANY,
      last_error: null,
    });
    expect(world.app.logs.filter((line) => line.includes('a plan waits for a person'))).toHaveLength(1);
  });

  test('lets go by itself when the plan is small again', async () => {
    await using world = await crowdedWorld(engine);
    const lost = await loseAccess(world, MANY);
    await world.wake();
    await updateUser(world.store, (lost[0] as Device).user.id, { status: 'active' });
    await world.wake();
    expect(world.keysOnHost().size).toBe(PEERS - MANY + 1);
    expect(await world.server()).toMatchObject({ brake_reason: null, pending_changes: 0 });
  });

  test('lets go of the plan that a person saw in observe mode and then switched to apply', async () => {
    await using world = await crowdedWorld(engine);
    await loseAccess(world, MANY);
    await world.wake();
    await switchTo(world, 'observe');
    expect(await world.server()).toMatchObject({
      brake_reason: expect.stringMatching(/^seen while observed: would take 11 /),
    });
    await switchTo(world, 'apply');
    expect(world.keysOnHost().size).toBe(PEERS - MANY);
    expect(await world.server()).toMatchObject({ brake_reason: null });
  });

  test('holds against a plan that grew after a person saw it', async () => {
    await using world = await crowdedWorld(engine);
    const devices = await loseAccess(world, MANY);
    await switchTo(world, 'observe');
    await updateServer(world.store, (await world.server()).id, { mode: 'apply' });
    await loseAccess(world, MANY + 1);
    await world.wake();
    expect(devices).toHaveLength(MANY);
    expect(world.keysOnHost().size).toBe(PEERS);
    expect(await world.server()).toMatchObject({ brake_reason: 'would take 12 of 20 peers off the host' });
  });

  test('is off for a pass that a person approved', async () => {
    await using world = await crowdedWorld(engine);
    await loseAccess(world, MANY);
    await world.wake();
    const deps = { ...world.services, instanceId: 'a person', driverFor: () => world.host.driver() };
    const signal = new AbortController().signal;
    const pass = await reconcileServer(deps, (await world.server()).id, { signal, approved: true });
    expect(pass).toMatchObject({ outcome: 'applied', changes: MANY });
    expect(world.keysOnHost().size).toBe(PEERS - MANY);
  });

  test('takes no notice of expiry, nor of devices that their owners removed', async () => {
    await using world = await crowdedWorld(engine);
    for (const device of world.devices.slice(0, MANY)) await world.remove(device);
    await world.app.settled();
    expect(world.keysOnHost().size).toBe(PEERS - MANY);
    await world.pass(30 * DAY_SECONDS);
    expect(world.keysOnHost().size).toBe(0);
    expect(await world.server()).toMatchObject({ brake_reason: null });
  });
});

async function crowdedWorld(engine: (typeof engines)[number]): Promise<World & { readonly devices: Device[] }> {
  const world = await World.start({ engine });
  const devices: Device[] = [];
  for (let peer = 0; peer < PEERS; peer += 1) {
    const user = await world.customer();
    devices.push({ user, peer: (await world.create(user)).peer });
  }
  await world.app.settled();
  return Object.assign(world, { devices });
}

/** As a mistake in the rows would: nobody did it through the server. */
async function loseAccess(world: { readonly devices: Device[] } & World, count: number): Promise<Device[]> {
  const lost = world.devices.slice(0, count);
  for (const { user } of lost) await updateUser(world.store, user.id, { status: 'blocked' });
  return lost;
}

async function switchTo(world: World, mode: 'observe' | 'apply'): Promise<void> {
  await updateServer(world.store, (await world.server()).id, { mode });
  await world.wake();
}

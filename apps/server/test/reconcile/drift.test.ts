import { describe, expect, test } from 'vitest';
import { DAY_SECONDS } from '../../src/domain/instant.ts';
import { engines } from '../harness.ts';
import { type Device, World } from './world.ts';

async function driftOf({ services }: World): Promise<Record<string, number>> {
  const { body } = await services.metrics.render();
  const lines = body.matchAll(/^vpn_api_reconcile_drift_total\{server="default",kind="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, kind = '', count]) => [kind, Number(count)]));
}

function writesOf({ host }: World) {
  return host.calls.filter(({ method }) => method === 'apply').flatMap(({ changes }) => changes);
}

describe.each(engines)('drift on %s', (engine) => {
  test('is repaired at the next compare, counted, and nobody else gets a write', async () => {
    await using world = await World.start({ engine });
    const devices: Device[] = [];
    for (let n = 0; n < 6; n += 1) devices.push(await world.device());
    const foreign = world.host.addForeignPeer(['10.8.0.200/32']);
    await world.pass(60);
    const [deleted, moved, disabled, rekeyed, ...right] = devices.map(({ peer }) => peer);
    const before = writesOf(world).length;
    world.deleteFromHost(deleted?.public_key ?? null);
    const onHost = (key: string | null | undefined) => world.host.peers().find((peer) => peer.publicKey === key);
    const change = (key: string | null | undefined, fields: object) => {
      const peer = onHost(key);
      if (peer === undefined) throw new Error('not on the host');
      world.host.put({ ...peer, ...fields });
    };
    change(moved?.public_key, { allowedIps: ['10.8.0.250/32'] });
    change(disabled?.public_key, { enabled: false });
    change(rekeyed?.public_key, { presharedKey: null });
    await world.pass(60);
    const written = writesOf(world).slice(before);
    const wrong = [deleted, moved, disabled, rekeyed].map((peer) => peer?.public_key);
    expect(written.map(({ publicKey }) => publicKey).sort()).toEqual(wrong.sort());
    expect(onHost(moved?.public_key)?.allowedIps).toEqual([moved?.wg_ip]);
    expect(onHost(disabled?.public_key)?.enabled).toBe(true);
    expect(onHost(foreign)?.allowedIps).toEqual(['10.8.0.200/32']);
    for (const { public_key: key } of right) expect(world.isOnHost(key)).toBe(true);
    expect(await driftOf(world)).toEqual({ set: 4 });
    await world.pass(60);
    expect(writesOf(world)).toHaveLength(before + written.length);
  });

  test('is a removed peer that an old backup of the host brings back, and one that somebody switched on', async () => {
    await using world = await World.start({ engine, host: { suspend: 'disable' } });
    const removed = await world.device();
    const [ghost] = world.host.peers();
    await world.remove(removed);
    await world.pass(60);
    const expired = await world.device({ days: 1 });
    await world.pass(DAY_SECONDS);
    expect(await driftOf(world)).toEqual({});
    if (ghost !== undefined) world.host.put(ghost);
    const peer = world.host.peers().find(({ publicKey }) => publicKey === expired.peer.public_key);
    if (peer !== undefined) world.host.put({ ...peer, enabled: true });
    await world.pass(60);
    expect(world.keysOnHost()).toEqual(new Set());
    expect(await driftOf(world)).toEqual({ remove: 1, suspend: 1 });
  });

  test('is not what payments change', async () => {
    await using world = await World.start({ engine });
    const { user, peer } = await world.device({ days: 1 });
    await world.pass(DAY_SECONDS);
    await world.pay(user.id);
    await world.app.settled();
    await world.remove({ user, peer });
    await world.pass(60);
    expect(await driftOf(world)).toEqual({});
  });
});

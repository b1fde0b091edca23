import { listHostPeers } from '@vpn-api/db';
import { generateKeyPair } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { rotatePeer } from '../../src/ops/rotate-peer.ts';
import { activatePeer, deactivatePeer } from '../../src/ops/switch-peer.ts';
import { updatePeerFields } from '../../src/ops/update-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit, type Device, World } from '../reconcile/world.ts';

describe.each(engines)('rotation on %s', (engine) => {
  test('to a key of the client keeps no private key, and the same key again changes nothing', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    const { publicKey } = generateKeyPair();
    const rotated = await rotate(world, device, publicKey);
    expect(rotated.privateKey).toBeNull();
    expect(rotated.peer).toMatchObject({ public_key: publicKey, private_key_sealed: null, preshared_key_sealed: null });
    const repeated = await rotate(world, device, publicKey);
    expect(repeated.peer).toMatchObject({ wanted_version: rotated.peer.wanted_version, public_key: publicKey });
  });

  test('to the key of another peer, or of the server, is refused and changes nothing', async () => {
    await using world = await World.start({ engine });
    const [mine, other] = [await world.device(), await world.device()];
    for (const key of [other.peer.public_key, (await world.server()).public_key]) {
      await expect(rotate(world, mine, key)).rejects.toMatchObject({ code: 'key_conflict' });
    }
    expect(await world.row(mine.peer.id)).toMatchObject({ public_key: mine.peer.public_key, wanted_version: 1 });
    await world.app.settled();
    expect(world.isOnHost(mine.peer.public_key)).toBe(true);
  });

  test('many times while the host is down leaves one key on it', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    world.host.fault = 'down';
    for (let times = 0; times < 3; times += 1) await rotate(world, device, null);
    await world.app.settled();
    world.host.fault = null;
    await world.pass(60);
    expect(world.keysOnHost()).toEqual(new Set([(await world.row(device.peer.id)).public_key]));
    await world.remove(device);
    await world.app.settled();
    expect(world.host.peers()).toEqual([]);
    const keys = await listHostPeers(world.store, device.peer.server_id);
    expect(keys.every((row) => row.gone_at !== null)).toBe(true);
  });

  test('back to the first key is possible once the host is without it', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    await rotate(world, device, null);
    await world.app.settled();
    await rotate(world, device, device.peer.public_key);
    await world.app.settled();
    expect(world.keysOnHost()).toEqual(new Set([device.peer.public_key]));
  });
});

describe.each(engines)('a change of a peer on %s', (engine) => {
  test('of its name or routes is no matter of the host; routes ask the client to fetch its config', async () => {
    await using world = await World.start({ engine });
    const device = await world.device();
    const edit = { deviceName: 'Phone', allowedIps: '10.0.0.0/8' };
    const { peer } = await updatePeerFields(world.services, world.request(device), edit);
    expect(peer).toMatchObject({
      device_name: 'Phone',
      allowed_ips: '10.0.0.0/8',
      config_version: 2,
      wanted_version: 1,
    });
    const cleared = await updatePeerFields(world.services, world.request(device), { allowedIps: null });
    expect(cleared.peer).toMatchObject({ device_name: 'Phone', allowed_ips: '0.0.0.0/0, ::/0', config_version: 3 });
    await world.app.settled();
    expect(world.addressesOf(device.peer.public_key)).toEqual([device.peer.wg_ip]);
  });

  test('of its address is seen on the host (D21), and only a free one of the pool is given (D18)', async () => {
    await using world = await World.start({ engine });
    world.host.addForeignPeer(['10.8.0.50/32']);
    const [device, other] = [await world.device(), await world.device()];
    const move = (address: string) => updatePeerFields(world.services, world.request(device), { address });
    for (const taken of [
      other.peer.wg_ip,
      '10.8.0.1/32',
      '10.8.0.50/32',
      '10.9.0.5/32',
      '10.8.0.9/24',
      'fd00::5/128',
    ]) {
      await expect(move(taken ?? '')).rejects.toMatchObject({ code: 'address_conflict' });
    }
    expect((await move('10.8.0.77/32')).peer).toMatchObject({ wg_ip: '10.8.0.77/32', config_version: 2 });
    const told = [expect.objectContaining({ peer_id: device.peer.id, config_version: 2 })];
    expect(await world.told('peer.config_changed')).toEqual(told);
    await world.app.settled();
    expect(world.addressesOf(device.peer.public_key)).toEqual(['10.8.0.77/32']);
    const keys = await listHostPeers(world.store, device.peer.server_id);
    expect(keys.map((row) => row.address_index).toSorted()).toEqual([3, 77]);
  });

  test('of its address gives the old one to nobody while the host still has it there', async () => {
    await using world = await World.start({ engine });
    const [device, other] = [await world.device(), await world.device()];
    const move = ({ user, peer }: Device, address: string | null) =>
      updatePeerFields(world.services, world.request({ user, peer }), { address: address ?? '' });
    world.host.fault = 'down';
    await move(device, '10.8.0.99/32');
    await expect(move(other, device.peer.wg_ip)).rejects.toMatchObject({ code: 'address_conflict' });
    await world.app.settled();
    world.host.fault = null;
    await world.pass(60);
    await move(other, device.peer.wg_ip);
    await world.app.settled();
    expect(world.addressesOf(device.peer.public_key)).toEqual(['10.8.0.99/32']);
    expect(world.addressesOf(other.peer.public_key)).toEqual([device.peer.wg_ip]);
  });

  test('that switches it on again is refused when the tariff allows fewer devices by now', async () => {
    await using world = await World.start({ engine });
    const user = await world.customer({ devices: 2, days: 1 });
    const [first, second] = [await world.create(user), await world.create(user)];
    const request = (peerId: number) => ({ ...world.request({ user, peer: first.peer }), peerId });
    for (const { peer } of [first, second]) await deactivatePeer(world.services, request(peer.id));
    await world.pass(86_400);
    await world.pay(user.id, { devices: 1 });
    await expect(activatePeer(world.services, request(second.peer.id))).rejects.toMatchObject({
      code: 'device_limit_reached',
    });
    expect(await activatePeer(world.services, request(first.peer.id))).toMatchObject({ access: { allowed: true } });
  });

  test('by somebody else finds no peer, nor by anybody once it is removed', async () => {
    await using world = await World.start({ engine });
    const [mine, other] = [await world.device(), await world.device()];
    const theirs = { ...world.request(mine), peerId: other.peer.id };
    await expect(deactivatePeer(world.services, theirs)).rejects.toMatchObject({ code: 'peer_not_found' });
    await world.remove(mine);
    await expect(rotate(world, mine, null)).rejects.toMatchObject({ code: 'peer_not_found' });
  });
});

function rotate(world: World, device: Device, publicKey: string | null) {
  return rotatePeer(world.services, world.request(device), { publicKey, beforeCommit });
}

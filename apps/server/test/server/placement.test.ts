import { describe, expect, test } from 'vitest';
import { DomainError } from '../../src/domain/errors.ts';
import { createPeer } from '../../src/ops/create-peer.ts';
import { engines } from '../harness.ts';
import { beforeCommit } from '../reconcile/world.ts';
import { HostWorld } from './host-world.ts';

describe.each(engines)('new peers on %s', (engine) => {
  /** Where peers of new customers go, one after another. */
  async function placed(hosts: HostWorld, count: number, region?: string): Promise<number[]> {
    const { world } = hosts;
    const ids: number[] = [];
    for (let n = 0; n < count; n += 1) {
      const user = await world.customer();
      const caller = { kind: 'user', user, sessionId: 1 } as const;
      const input = { caller, userId: user.id, region };
      ids.push((await createPeer(world.services, input, { source: undefined, beforeCommit })).peer.server_id);
    }
    return ids;
  }

  test('are shared out by weight, in the region that is asked for', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server: heavy } = await hosts.live({ region: 'nl', weight: 300 });
    const { server: light } = await hosts.live({ region: 'nl', weight: 100 });
    await hosts.live({ region: 'de', weight: 1_000_000 });
    const ids = await placed(hosts, 8, 'nl');
    expect(ids.filter((id) => id === heavy.id).length).toBe(6);
    expect(ids.filter((id) => id === light.id).length).toBe(2);
    await expect(placed(hosts, 1, 'mars')).rejects.toMatchObject({ code: 'no_capacity' });
  });

  test('go to nobody who drains, is retired, or is only observed, and come back after an undrain', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { id } = await hosts.world.server();
    await hosts.ok('PUT', `/servers/${id}`, { region: 'nl' });
    const drained = await hosts.live({ region: 'nl', weight: 1_000_000 });
    const retired = await hosts.live({ region: 'nl', weight: 1_000_000 });
    await hosts.add({ region: 'nl', weight: 1_000_000 });
    await hosts.ok('POST', `/servers/${drained.server.id}/drain`);
    await hosts.ok('POST', `/servers/${retired.server.id}/retire`);
    expect(await placed(hosts, 3, 'nl')).toEqual([id, id, id]);
    expect(await hosts.ok('POST', `/servers/${drained.server.id}/undrain`)).toMatchObject({ draining: false });
    expect(await placed(hosts, 1, 'nl')).toEqual([drained.server.id]);
  });

  test('go to a drained or observed server that is named, and to a retired or removed one not even then', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const observed = await hosts.add();
    const drained = await hosts.live();
    const retired = await hosts.live();
    await hosts.ok('POST', `/servers/${drained.server.id}/drain`);
    await hosts.ok('POST', `/servers/${retired.server.id}/retire`);
    const named = async (serverId: number) =>
      world
        .create(await world.customer(), { serverId })
        .then(({ peer }) => peer.server_id)
        .catch((error: DomainError) => error.code);
    expect(await named(observed.server.id)).toBe(observed.server.id);
    expect(await named(drained.server.id)).toBe(drained.server.id);
    expect(await named(retired.server.id)).toBe('server_retired');
    await hosts.ok('DELETE', `/servers/${retired.server.id}`);
    expect(await named(retired.server.id)).toBe('server_not_found');
  });

  test('avoid a host that fails as long as another one does not', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { id } = await hosts.world.server();
    const { server, host } = await hosts.live({ weight: 1_000_000 });
    expect(await placed(hosts, 1)).toEqual([id]);
    expect(await placed(hosts, 1)).toEqual([server.id]);
    await hosts.app.settled();
    host.fault = 'down';
    for (let minute = 0; minute < 6; minute += 1) await hosts.world.pass(60);
    expect(await hosts.get(server.id)).toMatchObject({
      healthy: false,
      last_error: 'unreachable: the fake host is down',
    });
    expect(await placed(hosts, 2)).toEqual([id, id]);
    await hosts.ok('POST', `/servers/${id}/drain`);
    expect(await placed(hosts, 1)).toEqual([server.id]);
  });

  test('that come 50 at once never exceed the capacity of a server, and all that fit get in', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    await hosts.ok('PUT', `/servers/${(await world.server()).id}`, { capacity: 7 });
    const { server } = await hosts.live({ capacity: 20 });
    const users = await Promise.all(Array.from({ length: 50 }, () => world.customer()));
    const outcomes = await Promise.all(
      users.map((user) =>
        world.create(user).then(
          ({ peer }) => peer.server_id,
          (error: unknown) => (error instanceof DomainError ? error.code : String(error)),
        ),
      ),
    );
    expect(outcomes.filter((outcome) => outcome === 'no_capacity').length).toBe(23);
    expect(outcomes.filter((outcome) => outcome === server.id).length).toBe(20);
    await hosts.app.settled();
    expect(await hosts.get(server.id)).toMatchObject({ peers: 20 });
  }, 60_000);
});

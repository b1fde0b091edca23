import { describe, expect, test } from 'vitest';
import { engines } from '../harness.ts';
import { HostWorld } from './host-world.ts';

/** Samples of one server, by what follows `vpn_api_server_`. */
async function samplesOf(hosts: HostWorld, server: string): Promise<Record<string, number>> {
  const { body } = await hosts.app.services.metrics.render();
  const lines = body.matchAll(new RegExp(`^vpn_api_server_(\\w+)\\{server="${server}"\\} (\\S+)$`, 'gm'));
  return Object.fromEntries([...lines].map(([, name = '', value]) => [name, Number(value)]));
}

const seconds = (instant: string) => Date.parse(instant) / 1000;

describe.each(engines)('the health of a host on %s', (engine) => {
  test('is in the metrics: a host that is down, what waits for it since when, and that it is back', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server, host } = await hosts.live();
    const seen = seconds(world.app.clock.now());
    const idle = { peers: 0, healthy: 1, braked: 0, pending_changes: 0, oldest_pending_seconds: 0 };
    expect(await samplesOf(hosts, server.name)).toEqual({ ...idle, last_seen_timestamp_seconds: seen });
    host.fault = 'down';
    await world.create(await world.customer(), { serverId: server.id });
    await world.pass(30);
    await world.pass(30);
    await world.pass(30);
    const down = { peers: 1, healthy: 0, oldest_pending_seconds: 90, last_seen_timestamp_seconds: seen };
    expect(await samplesOf(hosts, server.name)).toMatchObject(down);
    host.fault = null;
    await world.pass(60);
    const back = { ...idle, peers: 1, last_seen_timestamp_seconds: seconds(world.app.clock.now()) };
    expect(await samplesOf(hosts, server.name)).toEqual(back);
    await hosts.ok('POST', `/servers/${server.id}/evacuate`, {});
    await hosts.ok('POST', `/servers/${server.id}/retire`);
    expect(await samplesOf(hosts, server.name)).toEqual({});
  });
});

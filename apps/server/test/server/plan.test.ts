import { DriverError, FakeHost, type WgDriver } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { engines } from '../harness.ts';
import { HostWorld, type ServerView } from './host-world.ts';

interface Plan {
  readonly mode: string;
  readonly counts: Record<string, number>;
  readonly changes: readonly Record<string, unknown>[];
  readonly foreign: number;
  readonly brake: { readonly removals: number; readonly present: number } | null;
  readonly [key: string]: unknown;
}

interface Checks {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean | null; readonly message: string }[];
}

describe.each(engines)('the plan of a server on %s', (engine) => {
  test('shows what would change as data, without a secret, and changes nothing', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.add();
    host.addForeignPeer(['10.99.0.1/32']);
    const user = await hosts.world.customer({ devices: 2 });
    const { peer } = await hosts.world.create(user, { serverId: server.id });
    await hosts.app.settled();
    const answer = await hosts.call<Plan>('POST', `/servers/${server.id}/plan`);
    expect(answer.body).toMatchObject({
      mode: 'observe',
      counts: { add: 1, change: 0, suspend: 0, remove: 0 },
      changes: [
        { action: 'add', public_key: peer.public_key, addresses: [peer.wg_ip], peer_id: peer.id, user_id: user.id },
      ],
      changes_left_out: 0,
      foreign: 1,
      conflicts: [],
      brake: null,
    });
    expect(answer.text).not.toMatch(/private|preshared|sealed|secret/);
    expect(host.calls.some(({ method }) => method === 'apply')).toBe(false);
  });

  test('tells what would be changed, suspended and removed, and whose it is', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server, host } = await hosts.live();
    const devices = [];
    for (let n = 0; n < 3; n += 1) {
      const user = await world.customer();
      devices.push({ user, peer: (await world.create(user, { serverId: server.id })).peer });
    }
    await hosts.app.settled();
    await hosts.ok('PUT', `/servers/${server.id}`, { mode: 'observe' });
    const [changed, suspended, removed] = devices.map(({ peer }) => peer);
    if (changed === undefined || suspended === undefined || removed === undefined) throw new Error('three devices');
    const onHost = host.peers().find(({ publicKey }) => publicKey === changed.public_key);
    if (onHost !== undefined) host.put({ ...onHost, allowedIps: ['10.21.0.200/32'] });
    await hosts.ok('POST', `/vpn_peers/${suspended.id}/deactivate`);
    await hosts.ok('DELETE', `/vpn_peers/${removed.id}`);
    await hosts.app.settled();
    const plan = await hosts.ok<Plan>('POST', `/servers/${server.id}/plan`);
    expect(plan.counts).toEqual({ add: 0, change: 1, suspend: 1, remove: 1 });
    expect(plan.changes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          action: 'change',
          peer_id: changed.id,
          addresses: [changed.wg_ip],
          reason: 'active',
        }),
        expect.objectContaining({ action: 'suspend', peer_id: suspended.id, reason: 'deactivated' }),
        expect.objectContaining({ action: 'remove', peer_id: removed.id, public_key: removed.public_key }),
      ]),
    );
    expect(host.peers().length).toBe(3);
  });

  test.each([
    ['unreachable', 503, 'host_unreachable'],
    ['timeout', 503, 'host_unreachable'],
    ['auth_failed', 502, 'host_auth_failed'],
    ['refused', 502, 'host_refused'],
    ['interface_missing', 502, 'host_interface_missing'],
    ['bad_answer', 502, 'host_bad_answer'],
  ] as const)('of a host that is %s is a refusal with a code of its own', async (fault, status, code) => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.add();
    hosts.world.hosts.set(server.id, faulty(new DriverError(fault, 'in plain words')));
    await hosts.ok('PUT', `/servers/${server.id}`, { interface: 'wg7' });
    const answer = await hosts.call('POST', `/servers/${server.id}/plan`);
    expect(answer).toMatchObject({ status, body: { code, issues: [{ path: 'host', message: 'in plain words' }] } });
    const unasked = await hosts.call('POST', `/servers/${server.id}/apply`);
    expect([unasked.status, (await hosts.get(server.id)).mode]).toEqual([status, 'observe']);
  });
});

describe.each(engines)('applying a plan on %s', (engine) => {
  test('switches the server on, changes the host at once, and an update goes back to looking', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.add();
    const { peer } = await hosts.world.create(await hosts.world.customer(), { serverId: server.id });
    await hosts.app.settled();
    const applied = await hosts.ok('POST', `/servers/${server.id}/apply`);
    expect(applied).toMatchObject({
      outcome: 'applied',
      changes: 1,
      server: { mode: 'apply', peers: 1, healthy: true },
    });
    expect(host.peers().map(({ publicKey }) => publicKey)).toEqual([peer.public_key]);
    expect(await hosts.ok('PUT', `/servers/${server.id}`, { mode: 'observe' })).toMatchObject({ mode: 'observe' });
    await hosts.world.remove({ user: { id: peer.user_id } as never, peer });
    await hosts.app.settled();
    expect(host.peers().length).toBe(1);
    const audit = await hosts.ok<{ action: string; target: string }[]>('GET', '/audit');
    expect(audit).toContainEqual(expect.objectContaining({ action: 'server.apply', target: `server:${server.id}` }));
  });

  test('needs a person to accept as many removals as the plan shows, and takes no more than those', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { world } = hosts;
    const { server, host } = await hosts.live();
    const users = [];
    for (let n = 0; n < 12; n += 1) {
      const user = await world.customer();
      users.push(user);
      await world.create(user, { serverId: server.id });
    }
    await hosts.app.settled();
    // All at once for the host: it was away meanwhile.
    host.fault = 'down';
    for (const { id } of users) await hosts.ok('POST', `/users/${id}/block`);
    await hosts.app.settled();
    host.fault = null;
    await world.pass(120);
    expect(host.peers().length).toBe(12);
    const path = `/servers/${server.id}`;
    const plan = await hosts.ok<Plan>('POST', `${path}/plan`);
    expect(plan.brake).toEqual({ removals: 12, present: 12 });
    expect(await hosts.get(server.id)).toMatchObject({ brake_reason: expect.stringContaining('12 of 12') });
    for (const body of [{}, { accept_removals: 11 }]) {
      expect(await hosts.call('POST', `${path}/apply`, body)).toMatchObject({
        status: 409,
        body: { code: 'plan_not_accepted' },
      });
    }
    expect(host.peers().length).toBe(12);
    const applied = await hosts.ok('POST', `${path}/apply`, { accept_removals: 12 });
    expect(applied).toMatchObject({ outcome: 'applied', changes: 12, server: { brake_reason: null } });
    expect(host.peers()).toEqual([]);
  });

  test('of the server that the settings keep in observe mode is theirs', async () => {
    await using hosts = await HostWorld.start({
      engine,
      env: {
        WG_HOST_SSH: 'vpn@vpn.example.com',
        WG_HOST_FINGERPRINT: `SHA256:${'A'.repeat(43)}`,
        WG_HOST_SSH_KEY: '/dev/null',
        WG_APPLY_ENABLED: '0',
      },
    });
    const { id } = await hosts.world.server();
    expect(await hosts.call('POST', `/servers/${id}/apply`)).toMatchObject({
      status: 409,
      body: { code: 'server_from_settings' },
    });
  });
});

describe.each(engines)('the test of a server on %s', (engine) => {
  const check = (hosts: HostWorld, { id }: ServerView) => hosts.ok<Checks>('POST', `/servers/${id}/test`);
  const named = ({ checks }: Checks) => Object.fromEntries(checks.map(({ name, ok }) => [name, ok]));

  test('goes through everything that a pass needs, and learns what clients must know', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.add();
    const tested = await check(hosts, server);
    const all = { reachable: true, host_key: true, credentials: true, interface: true, list: true, clock: null };
    expect(named(tested)).toEqual({ ...all, client_config: true });
    expect(tested.ok).toBe(true);
    expect(await hosts.get(server.id)).toMatchObject({ public_key: host.publicKey });
  });

  test('tells a clock that runs ahead, and one that is right, by the latest handshake', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server, host } = await hosts.add();
    const foreign = host.addForeignPeer(['10.99.0.1/32']);
    const now = hosts.app.clock.now();
    host.put({ publicKey: foreign, lastHandshakeAt: addSeconds(now, 600) });
    expect(await check(hosts, server)).toMatchObject({ ok: false });
    expect((await check(hosts, server)).checks.find(({ name }) => name === 'clock')?.message).toContain('600 s ahead');
    host.put({ publicKey: foreign, lastHandshakeAt: addSeconds(now, -30) });
    expect(named(await check(hosts, server))).toMatchObject({ clock: true });
    host.put({ publicKey: foreign, lastHandshakeAt: addSeconds(now, -86_400) });
    expect(named(await check(hosts, server))).toMatchObject({ clock: null });
  });

  test('names the key that an unknown host shows, and how to be sure of it', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.add();
    const shown = `SHA256:${'B'.repeat(43)}`;
    const error = new DriverError('auth_failed', `the host key is not the pinned one: the host presented ${shown}`);
    hosts.world.hosts.set(server.id, faulty(error));
    await hosts.ok('PUT', `/servers/${server.id}`, { interface: 'wg7' });
    const unpinned = await check(hosts, server);
    expect(named(unpinned)).toEqual({ reachable: true, host_key: false });
    expect(unpinned.checks.at(-1)?.message).toContain(`pin this fingerprint: ${shown}`);
    await hosts.ok('PUT', `/servers/${server.id}`, { host_fingerprint: `SHA256:${'A'.repeat(43)}` });
    expect((await check(hosts, server)).checks.at(-1)?.message).toContain('somebody may be in between');
  });

  test('says which step failed and what to do', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.add();
    const faults = [
      ['unreachable', { reachable: false }, 'firewall'],
      ['auth_failed', { reachable: true, host_key: null, credentials: false }, 'check the user'],
      [
        'interface_missing',
        { reachable: true, host_key: null, credentials: true, interface: false },
        'bring the interface up',
      ],
    ] as const;
    for (const [index, [fault, checks, advice]] of faults.entries()) {
      hosts.world.hosts.set(server.id, faulty(new DriverError(fault, 'it did not work')));
      await hosts.ok('PUT', `/servers/${server.id}`, { interface: `wg${index + 1}` });
      const tested = await check(hosts, server);
      expect(named(tested)).toEqual(checks);
      expect(tested.checks.at(-1)?.message).toContain(advice);
    }
  });

  test('claims nothing of a login where what answers is no wg-easy', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.addReported();
    hosts.world.hosts.set(server.id, faulty(new DriverError('bad_answer', 'what answers is not wg-easy')));
    await hosts.ok('PUT', `/servers/${server.id}`, { interface: 'wg1' });
    const tested = await check(hosts, server);
    expect(named(tested)).toEqual({ reachable: true, credentials: null, interface: null, list: false });
    expect(tested.ok).toBe(false);
  });

  test('finds a host whose key is not the one that clients are told', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.add();
    await hosts.ok('PUT', `/servers/${server.id}`, { public_key: new FakeHost().publicKey });
    const tested = await check(hosts, server);
    expect(named(tested)).toMatchObject({ interface: false });
    await hosts.ok('PUT', `/servers/${server.id}`, { public_key: null });
    expect(named(await check(hosts, server))).toMatchObject({ interface: true });
  });
});

/** A host whose every answer is this error. */
function faulty(error: DriverError): FakeHost {
  const refuse = () => Promise.reject(error);
  const host = new FakeHost();
  const driver: WgDriver = { ...host.driver(), describe: refuse, list: refuse, apply: refuse };
  host.driver = () => driver;
  return host;
}

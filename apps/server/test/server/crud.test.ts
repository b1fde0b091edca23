import { randomUUID } from 'node:crypto';
import { generateKeyPair } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { openCredentials } from '../../src/ops/host-credentials.ts';
import { engines } from '../harness.ts';
import { HostWorld, SECRETS, type ServerView } from './host-world.ts';

const PIN = `SHA256:${'A'.repeat(43)}`;
const SSH = {
  name: 'ams1',
  driver: 'ssh',
  address: 'vpn@203.0.114.7:2222',
  credentials: { private_key: SECRETS[2], passphrase: SECRETS[1] },
  host_fingerprint: PIN,
  pool_v4: '10.50.0.0/24',
};
const WG_EASY = {
  name: 'fra1',
  driver: 'wg-easy',
  address: 'https://wg.example.com:51821',
  credentials: { password: SECRETS[0] },
  pool_v4: '10.51.0.0/24',
};

describe.each(engines)('servers on %s', (engine) => {
  test('are added, shown, changed, listed and removed, and their names are free again', async () => {
    await using hosts = await HostWorld.start({ engine });
    const created = await hosts.ok<ServerView>('POST', '/servers', { ...SSH, region: 'nl', capacity: 100 });
    expect(created).toMatchObject({
      ...{ name: 'ams1', region: 'nl', driver: 'ssh', keys: 'given', mode: 'observe', origin: 'api' },
      ...{ address: SSH.address, has_credentials: true, host_fingerprint: PIN, privilege: 'direct', interface: 'wg0' },
      ...{ capacity: 100, weight: 100, draining: false, healthy: false, peers: 0, pool_v4: '10.50.0.0/24' },
    });
    const changed = await hosts.ok<ServerView>('PUT', `/servers/${created.id}`, {
      weight: 5,
      region: null,
      dns: '9.9.9.9',
    });
    expect(changed).toMatchObject({ weight: 5, region: null, dns: '9.9.9.9', capacity: 100 });
    const listed = await hosts.ok<ServerView[]>('GET', '/servers');
    expect(listed.map(({ name, origin }) => [name, origin])).toEqual([
      ['default', 'env'],
      ['ams1', 'api'],
    ]);
    expect(await hosts.call('POST', '/servers', SSH)).toMatchObject({ status: 409, body: { code: 'server_exists' } });
    await hosts.ok('DELETE', `/servers/${created.id}`);
    expect(await hosts.call('GET', `/servers/${created.id}`)).toMatchObject({ status: 404 });
    expect((await hosts.ok<ServerView[]>('GET', '/servers')).length).toBe(1);
    expect((await hosts.row(created.id)).credentials_sealed).toBeNull();
    expect(await hosts.ok<ServerView>('POST', '/servers', SSH)).toMatchObject({ name: 'ams1' });
    const audit = await hosts.ok<{ action: string }[]>('GET', '/audit');
    expect(audit.map(({ action }) => action).filter((action) => action.startsWith('server.'))).toEqual(
      expect.arrayContaining(['server.create', 'server.update', 'server.remove']),
    );
  });

  test('answer a repeat with the same Idempotency-Key by the server that was made', async () => {
    await using hosts = await HostWorld.start({ engine });
    const options = { token: hosts.token, body: SSH, headers: { 'idempotency-key': randomUUID() } };
    const first = await hosts.app.rest<ServerView>('POST', '/servers', options);
    const again = await hosts.app.rest<ServerView>('POST', '/servers', options);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
  });

  test('keep their credentials to themselves: no answer, log line or audit row holds one', async () => {
    await using hosts = await HostWorld.start({ engine });
    const ssh = await hosts.ok<ServerView>('POST', '/servers', SSH);
    const easy = await hosts.ok<ServerView>('POST', '/servers', WG_EASY);
    const answers = [
      await hosts.call('PUT', `/servers/${ssh.id}`, { credentials: SSH.credentials }),
      await hosts.call('PUT', `/servers/${easy.id}`, { credentials: {} }),
      await hosts.call('GET', `/servers/${ssh.id}`),
      await hosts.call('GET', '/servers'),
      await hosts.call('POST', `/servers/${ssh.id}/plan`),
      await hosts.call('POST', `/servers/${ssh.id}/test`),
      await hosts.call('GET', '/audit'),
      await hosts.call('POST', '/servers', { ...SSH, credentials: { private_key: SECRETS[2], password: SECRETS[0] } }),
    ];
    await hosts.app.settled();
    for (const secret of SECRETS) {
      for (const { text } of answers) expect(text).not.toContain(secret);
      for (const line of hosts.app.logs) expect(line).not.toContain(secret);
      expect(JSON.stringify(await hosts.row(ssh.id))).not.toContain(secret);
    }
    const { privateKey, passphrase } = openCredentials(hosts.app.services, await hosts.row(ssh.id));
    expect([privateKey, passphrase]).toEqual([SECRETS[2], SECRETS[1]]);
  });

  test('do not send a password to another address than the one it was given for', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { id } = await hosts.ok<ServerView>('POST', '/servers', WG_EASY);
    const elsewhere = { address: 'https://evil.example.com' };
    expect(await hosts.call('PUT', `/servers/${id}`, elsewhere)).toMatchObject({
      status: 400,
      body: { issues: [{ path: 'credentials' }] },
    });
    const again = { ...elsewhere, credentials: { password: 'another one' } };
    expect(await hosts.ok('PUT', `/servers/${id}`, again)).toMatchObject({ ...elsewhere, mode: 'observe' });
  });

  const { publicKey } = generateKeyPair();
  test.each<[string, Record<string, unknown>, string]>([
    ['a wg-easy without an address', { ...WG_EASY, address: null }, 'address'],
    ['a wg-easy in the LAN that is not allowed', { ...WG_EASY, address: 'http://10.0.0.5:51821' }, 'address'],
    ['the metadata service of a cloud', { ...WG_EASY, address: 'http://169.254.169.254' }, 'address'],
    ['a URL with a path', { ...WG_EASY, address: 'https://wg.example.com/api' }, 'address'],
    ['a URL with a password', { ...WG_EASY, address: 'https://a:b@wg.example.com' }, 'address'],
    ['a wg-easy without credentials', { ...WG_EASY, credentials: undefined }, 'credentials'],
    ['a wg-easy that takes keys', { ...WG_EASY, keys: 'given' }, 'keys'],
    ['a wg-easy with a host key', { ...WG_EASY, host_fingerprint: PIN }, 'host_fingerprint'],
    ['an SSH address without a user', { ...SSH, address: '203.0.114.7' }, 'address'],
    ['an SSH host on loopback', { ...SSH, address: 'root@127.0.0.1' }, 'address'],
    ['an SSH host without a key', { ...SSH, credentials: { passphrase: 'x' } }, 'credentials.private_key'],
    ['an SSH host with a password', { ...SSH, credentials: { private_key: 'k', password: 'x' } }, 'credentials'],
    ['host-made keys without anything that makes them', { ...SSH, keys: 'reported' }, 'keys'],
    ['scripts beside the kit', { ...SSH, privilege: 'kit', scripts: { apply: '/opt/a' } }, 'scripts'],
    ['a script with arguments', { ...SSH, scripts: { apply: '/opt/a; id' } }, 'scripts.apply'],
    ['a script outside its folder', { ...SSH, scripts: { apply: '/opt/../a' } }, 'scripts.apply'],
    ['a fingerprint of another kind', { ...SSH, host_fingerprint: 'MD5:aa' }, 'host_fingerprint'],
    ['an interface that is a word of wg', { ...SSH, interface: 'all' }, 'interface'],
    ['an interface with a blank', { ...SSH, interface: 'wg0 wg1' }, 'interface'],
    ['a pool that is none', { ...SSH, pool_v4: '10.0.0.1' }, 'pool_v4'],
    ['an IPv6 pool for IPv4', { ...SSH, pool_v4: 'fd00::/64' }, 'pool_v4'],
    ['a resolver that is a name', { ...SSH, dns: 'dns.example.com' }, 'dns'],
    ['an endpoint without a port', { ...SSH, endpoint: 'vpn.example.com' }, 'endpoint'],
    ['a key that is none', { ...SSH, public_key: 'abc' }, 'public_key'],
    ['the machine of this server', { ...SSH, driver: 'local', address: null }, 'driver'],
    ['a paper server with an address', { name: 'p', driver: 'none', pool_v4: '10.1.0.0/24', address: 'x' }, 'address'],
    ['parameters of no protocol', { ...SSH, protocol_params: { Jc: 4 } }, 'protocol_params'],
    [
      'a parameter that runs as root',
      { ...SSH, protocol: 'amneziawg', protocol_params: { PostUp: 'id' } },
      'protocol_params',
    ],
    [
      'a parameter with a line end',
      { ...SSH, protocol: 'amneziawg', protocol_params: { I1: '<c>\nPostUp=id' } },
      'protocol_params',
    ],
    ['apply mode from the start', { ...SSH, mode: 'apply' }, 'mode'],
    ['an unknown setting', { ...SSH, public_key: publicKey, colour: 'blue' }, 'colour'],
  ])('refuse %s', async (_name, body, path) => {
    await using hosts = await HostWorld.start({ engine });
    const answer = await hosts.call<{ code: string; issues: { path: string }[] }>('POST', '/servers', body);
    expect(answer).toMatchObject({ status: 400, body: { code: 'validation_failed' } });
    expect(answer.text).toContain(path);
  });

  test('are one for each host, however its address is written: two would be two writers', async () => {
    await using hosts = await HostWorld.start({ engine });
    const ssh = await hosts.ok<ServerView>('POST', '/servers', SSH);
    await hosts.ok('POST', '/servers', WG_EASY);
    const another = { ...SSH, name: 'ams2', address: 'root@203.0.114.7:2222' };
    const taken = (message: string) => ({ status: 409, body: { code: 'server_exists', issues: [{ message }] } });
    const is = `server ${ssh.id} is this host already`;
    expect(await hosts.call('POST', '/servers', another)).toMatchObject(taken(is));
    const page = { ...WG_EASY, name: 'fra2', address: 'HTTPS://WG.example.com:51821/' };
    expect(await hosts.call('POST', '/servers', page)).toMatchObject({ status: 409 });
    const second = await hosts.ok<ServerView>('POST', '/servers', { ...another, interface: 'wg1' });
    expect(await hosts.call('PUT', `/servers/${second.id}`, { interface: 'wg0' })).toMatchObject(taken(is));
    expect(await hosts.get(second.id)).toMatchObject({ interface: 'wg1' });
    await hosts.ok('POST', `/servers/${ssh.id}/retire`);
    expect(await hosts.call('POST', '/servers', { ...another, name: 'ams3' })).toMatchObject(
      taken(`${is}, and retired: unretire it`),
    );
    await hosts.ok('DELETE', `/servers/${ssh.id}`);
    expect(await hosts.ok('POST', '/servers', { ...another, name: 'ams3' })).toMatchObject({ name: 'ams3' });
  });

  test('are one for each host however many callers add it at once', async () => {
    await using hosts = await HostWorld.start({ engine });
    const names = ['a', 'b', 'c', 'd', 'e'];
    const answers = await Promise.all(names.map((name) => hosts.call('POST', '/servers', { ...WG_EASY, name })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
  });

  test('that are changed by two admins at once keep what each of them changed', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { id } = await hosts.ok<ServerView>('POST', '/servers', SSH);
    const changes = [{ weight: 7 }, { capacity: 70 }, { region: 'nl' }, { dns: '9.9.9.9' }, { keepalive: 17 }];
    const answers = await Promise.all(changes.map((change) => hosts.call('PUT', `/servers/${id}`, change)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(await hosts.get(id)).toMatchObject(Object.assign({}, ...changes));
  });

  test('may be in the LAN when the settings allow that', async () => {
    await using hosts = await HostWorld.start({ engine, env: { OUTBOUND_ALLOW: '10.0.0.0/8' } });
    const { id } = await hosts.ok<ServerView>('POST', '/servers', { ...WG_EASY, address: 'http://10.0.0.5:51821' });
    expect(await hosts.get(id)).toMatchObject({ address: 'http://10.0.0.5:51821', keys: 'reported' });
  });

  test('that the settings describe are changed there; only what the settings do not say is changed here', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { id } = await hosts.world.server();
    for (const change of [
      { pool_v4: '10.0.0.0/8' },
      { name: 'mine' },
      { mode: 'observe' },
      { endpoint: 'a.example:1' },
    ]) {
      expect(await hosts.call('PUT', `/servers/${id}`, change)).toMatchObject({
        status: 409,
        body: { code: 'server_from_settings' },
      });
    }
    expect(await hosts.call('DELETE', `/servers/${id}`)).toMatchObject({ body: { code: 'server_from_settings' } });
    const own = { region: 'de', capacity: 9, weight: 1 };
    expect(await hosts.ok('PUT', `/servers/${id}`, own)).toMatchObject({ ...own, name: 'default', driver: 'local' });
  });

  test('with peers keep every address: their pools grow and do not move', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.live();
    const path = `/servers/${server.id}`;
    await hosts.world.create(await hosts.world.customer(), { serverId: server.id });
    for (const pool_v4 of ['10.99.0.0/24', `${String(server.pool_v4).replace('/24', '/25')}`]) {
      expect(await hosts.call('PUT', path, { pool_v4 })).toMatchObject({ status: 409, body: { code: 'pool_in_use' } });
    }
    const pool_v4 = String(server.pool_v4).replace('/24', '/20');
    expect(await hosts.ok('PUT', path, { pool_v4, pool_v6: 'fd00:9::/64' })).toMatchObject({ pool_v4 });
    expect(await hosts.call('DELETE', path)).toMatchObject({ status: 409, body: { code: 'server_has_peers' } });
  });

  test('print what their protocol needs into configs, and tell clients to fetch them again when it changes', async () => {
    await using hosts = await HostWorld.start({ engine });
    const { server } = await hosts.live();
    const { peer } = await hosts.world.create(await hosts.world.customer(), { serverId: server.id });
    await hosts.app.settled();
    const config = async () => (await hosts.ok<{ wg_quick: string }>('GET', `/vpn_peers/${peer.id}/config`)).wg_quick;
    // By its line: two letters alone are now and then found in a random key.
    expect(await config()).not.toMatch(/^(?:Jc|H1|I1) =/m);
    await hosts.ok('PUT', `/servers/${server.id}`, {
      protocol: 'amneziawg',
      protocol_params: { Jc: 4, H1: 77, I1: '<b 0xff>' },
    });
    expect(await config()).toContain('Jc = 4\nH1 = 77\nI1 = <b 0xff>\n\n[Peer]');
    expect(await hosts.world.row(peer.id)).toMatchObject({ config_version: peer.config_version + 1 });
    await hosts.ok('PUT', `/servers/${server.id}`, { weight: 7 });
    expect(await hosts.world.row(peer.id)).toMatchObject({ config_version: peer.config_version + 1 });
  });
});

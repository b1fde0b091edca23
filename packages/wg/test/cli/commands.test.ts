import { verify } from '@node-rs/bcrypt';
import { expect, test, vi } from 'vitest';
import { addPeer } from '../../src/cli/add.ts';
import { hashPassword } from '../../src/cli/hash-password.ts';
import { listPeers } from '../../src/cli/list.ts';
import { readPeersFile } from '../../src/cli/peers-file.ts';
import { removePeer } from '../../src/cli/remove.ts';
import { syncPeers } from '../../src/cli/sync.ts';
import { UsageError } from '../../src/cli/usage-error.ts';
import { FakeHost, generateKeyPair, parseClientConfig } from '../../src/index.ts';

/** Collects what a command writes. */
function paper() {
  let text = '';
  return {
    write: (more: string) => {
      text += more;
    },
    get text() {
      return text;
    },
  };
}

const ENDPOINT = 'vpn.example.com:51820';

test('a new peer takes the lowest free address and its printed config fits what is on the host', async () => {
  const host = new FakeHost();
  host.addForeignPeer(['10.8.0.2/32']);
  host.addForeignPeer(['10.8.0.4/30', '0.0.0.0/0']);
  const output = paper();
  for (const name of ['phone', 'laptop']) {
    await addPeer(host.driver(), output, { name, pool: '10.8.0.0/24', endpoint: ENDPOINT, dns: ['1.1.1.1'] });
  }
  const [phone = '', laptop = ''] = output.text.split('[Interface]').slice(1);
  const config = parseClientConfig(`[Interface]${phone}`);
  expect(config.addresses).toEqual(['10.8.0.3/32']);
  expect(config.endpoint).toBe(ENDPOINT);
  expect(config.publicKey).toBe(host.publicKey);
  expect(parseClientConfig(`[Interface]${laptop}`).addresses).toEqual(['10.8.0.8/32']);
  const onHost = host.peers().find(({ allowedIps }) => allowedIps.includes('10.8.0.3/32'));
  expect(onHost?.presharedKey).toBe(config.presharedKey);
});

test('an address or a key that is on the host already is refused', async () => {
  const host = new FakeHost();
  const publicKey = host.addForeignPeer(['10.8.0.9/32']);
  const add = (options: object) =>
    addPeer(host.driver(), paper(), { name: 'a', endpoint: ENDPOINT, dns: [], ...options });
  await expect(add({ address: '10.8.0.9' })).rejects.toThrow('another peer has this address');
  await expect(add({ address: '10.8.0.10', publicKey })).rejects.toThrow('this key already');
  await expect(add({})).rejects.toThrow(UsageError);
  await expect(add({ name: 'a\n[Peer]', address: '10.8.0.10' })).rejects.toThrow('a name is');
  expect(host.peers()).toHaveLength(1);
});

test('a config that could not be printed is found out before the host is changed', async () => {
  for (const options of [{}, { keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' }] as const) {
    const host = new FakeHost(options);
    const address = options.keys === undefined ? { address: '10.8.0.10' } : {};
    const add = (wrong: object) =>
      addPeer(host.driver(), paper(), { name: 'a', endpoint: ENDPOINT, dns: [], ...address, ...wrong });
    await expect(add({ endpoint: 'vpn.example.com' })).rejects.toThrow('Endpoint: host:port is needed');
    await expect(add({ endpoint: `${ENDPOINT}\nPostUp = id` })).rejects.toThrow('Endpoint');
    await expect(add({ dns: ['1.1.1.1', 'dns.example'] })).rejects.toThrow('DNS');
    await expect(add({ address: '10.8.0.0/24' })).rejects.toThrow('single host');
    expect(host.peers()).toEqual([]);
  }
});

test('a peer of the same name is reported again, and of two hand-made ones none is taken for a twin', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  const add = async (name: string) => {
    const output = paper();
    await addPeer(host.driver(), output, { name, endpoint: ENDPOINT, dns: [] });
    return output.text;
  };
  expect(await add('phone')).toBe(await add('phone'));
  expect(host.peers()).toHaveLength(1);
  for (const tag of ['two', 'two']) host.put({ publicKey: generateKeyPair().publicKey, tag });
  const before = host.peers();
  await expect(add('two')).rejects.toThrow('several peers on the host are called two');
  const desired = readPeersFile('{"peers":[{"name":"two"}]}');
  for (const prune of [false, true]) {
    const sync = syncPeers(host.driver(), paper(), { desired, dryRun: false, prune });
    await expect(sync).rejects.toThrow('several peers on the host are called two');
  }
  expect(host.peers()).toEqual(before);
});

test('a host that makes the keys takes an address, and no pool', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  const add = (more: object) => addPeer(host.driver(), paper(), { name: 'a', endpoint: ENDPOINT, dns: [], ...more });
  await expect(add({ pool: '10.8.0.0/24' })).rejects.toThrow('leave --pool out');
  await add({ address: '10.8.0.77' });
  expect(host.peers().map(({ allowedIps }) => allowedIps)).toEqual([['10.8.0.77/32']]);
});

test('a host that makes the keys is asked for a peer by name, and its config is printed anew', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  const output = paper();
  await addPeer(host.driver(), output, { name: 'phone', endpoint: ENDPOINT, dns: ['9.9.9.9'] });
  expect(host.peers().map(({ tag }) => tag)).toEqual(['phone']);
  const config = parseClientConfig(output.text);
  expect(config.dns).toEqual(['9.9.9.9']);
  expect(config.persistentKeepalive).toBe(25);
});

test('a peer is removed by its name or its key, and never by a name that two have', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  for (const tag of ['one', 'two', 'two']) host.put({ publicKey: generateKeyPair().publicKey, tag });
  await removePeer(host.driver(), paper(), 'one');
  await expect(removePeer(host.driver(), paper(), 'two')).rejects.toThrow('2 peers are called so');
  await expect(removePeer(host.driver(), paper(), 'three')).rejects.toThrow('there is no peer');
  const [first] = host.peers();
  await removePeer(host.driver(), paper(), first?.publicKey ?? '');
  expect(host.peers()).toHaveLength(1);
});

test('sync makes what the file says, touches nothing else, and a second run has nothing to do', async () => {
  const host = new FakeHost();
  const foreign = host.addForeignPeer(['10.8.0.50/32']);
  const [one, two] = [generateKeyPair().publicKey, generateKeyPair().publicKey];
  host.put({ publicKey: one, allowedIps: ['10.8.0.77/32'] });
  const desired = readPeersFile(
    JSON.stringify({
      peers: [
        { name: 'one', public_key: one, addresses: ['10.8.0.2/32'] },
        { name: 'two', public_key: two, addresses: ['10.8.0.3'] },
      ],
    }),
  );
  const run = async (options: object = {}) => {
    const output = paper();
    await syncPeers(host.driver(), output, { desired, dryRun: false, prune: false, ...options });
    return output.text;
  };
  expect(await run({ dryRun: true })).toContain('2 changes to make');
  expect(host.peers()).toHaveLength(2);
  expect(await run()).toContain('2 changes made');
  expect(await run()).toContain('0 changes made, 2 peers were right already');
  expect(host.peers().map(({ publicKey }) => publicKey)).toContain(foreign);
  await run({ prune: true });
  expect(new Set(host.peers().map(({ publicKey }) => publicKey))).toEqual(new Set([one, two]));
});

test('where the host makes the keys a name is enough: the second run has nothing to do, and strangers stay', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  const stranger = generateKeyPair().publicKey;
  host.put({ publicKey: stranger, tag: 'stranger' });
  const desired = readPeersFile('{"peers":[{"name":"one"},{"name":"two"},{"name":"off","suspended":true}]}');
  const run = async (options: object = {}) => {
    const output = paper();
    await syncPeers(host.driver(), output, { desired, dryRun: false, prune: false, ...options });
    return output.text;
  };
  expect(await run()).toBe('+ set one\n+ set two\n2 changes made, 1 peers were right already\n');
  const before = host.peers();
  expect(await run()).toBe('0 changes made, 3 peers were right already\n');
  expect(host.peers()).toEqual(before);
  expect(await run({ prune: true })).toContain(`- remove stranger ${stranger}`);
  expect(host.peers().map(({ tag }) => tag)).toEqual(['one', 'two']);
});

test('a file that does not fit the host is refused before anything is changed', async () => {
  const given = new FakeHost();
  const reported = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  const sync = (host: FakeHost, peers: readonly object[]) =>
    syncPeers(host.driver(), paper(), {
      desired: readPeersFile(JSON.stringify({ peers })),
      dryRun: false,
      prune: false,
    });
  const public_key = generateKeyPair().publicKey;
  const good = { name: 'good', public_key, addresses: ['10.8.0.2'] };
  await expect(sync(given, [good, { name: 'bare' }])).rejects.toThrow('bare needs a public_key');
  await expect(sync(reported, [{ name: 'new' }, { name: 'keyed', public_key }])).rejects.toThrow(
    'leave the public_key of keyed out',
  );
  await expect(async () => sync(given, [good, good])).rejects.toThrow('two peers called good');
  expect([given.peers(), reported.peers()]).toEqual([[], []]);
});

test('a host that makes peers one by one is waited for as long as that takes, any other half a minute', async () => {
  const clock = vi.spyOn(AbortSignal, 'timeout');
  const longest = async (host: FakeHost, peer: (n: number) => object) => {
    clock.mockClear();
    const desired = readPeersFile(JSON.stringify({ peers: Array.from({ length: 250 }, (_, n) => peer(n)) }));
    await syncPeers(host.driver(), paper(), { desired, dryRun: false, prune: false });
    return Math.max(...clock.mock.calls.map(([ms]) => ms));
  };
  const reported = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/24' });
  // A wg-easy needs 338 ms for the last of them, and five times as long on a busy machine.
  expect(await longest(reported, (n) => ({ name: `p${n}` }))).toBeGreaterThan(250 * 338 * 5);
  const keyed = (n: number) => ({
    name: `p${n}`,
    public_key: generateKeyPair().publicKey,
    addresses: [`10.8.${n}.2`],
  });
  expect(await longest(new FakeHost(), keyed)).toBeLessThanOrEqual(30_000);
});

test('a change that the host did not make is named with its reason', async () => {
  const host = new FakeHost({ keys: 'reported', suspend: 'disable', pool: '10.8.0.0/29' });
  const peers = Array.from({ length: 7 }, (_, n) => ({ name: `p${n}` }));
  const desired = readPeersFile(JSON.stringify({ peers }));
  const output = paper();
  const sync = syncPeers(host.driver(), output, { desired, dryRun: false, prune: false });
  await expect(sync).rejects.toThrow('2 of 7 changes were not made');
  expect(output.text).toMatch(/^! p5: .+\n! p6: .+$/m);
});

test('a change that the host did not make is an error', async () => {
  const host = new FakeHost();
  const desired = readPeersFile(
    JSON.stringify({ peers: [{ name: 'one', public_key: generateKeyPair().publicKey, addresses: ['10.8.0.2/32'] }] }),
  );
  host.failNext('refuse', 2);
  const sync = syncPeers(host.driver(), paper(), { desired, dryRun: false, prune: false });
  await expect(sync).rejects.toThrow();
});

test.each([
  ['{', 'is not JSON'],
  ['{"peers":[{"name":"a b"}]}', 'peers.0.name'],
  ['{"peers":[{"name":"a","public_key":"secret"}]}', 'peers.0.public_key'],
  ['{"peers":[{"name":"a","addresses":["10.0.0.0/8"]}]}', 'peers.0.addresses.0'],
  ['{"peers":[],"more":1}', 'root'],
])('a wrong peers file is refused with the place: %s', (text, place) => {
  expect(() => readPeersFile(text)).toThrow(place);
  expect(() => readPeersFile(text)).toThrow(
    expect.not.objectContaining({ message: expect.stringContaining('secret') }),
  );
});

test('what is shown holds no preshared key and no control characters of a name', async () => {
  const host = new FakeHost();
  host.put({ publicKey: generateKeyPair().publicKey, allowedIps: ['10.8.0.2/32'], tag: 'a\u001b[2Jb' });
  const [plain, json] = [paper(), paper()];
  await listPeers(host.driver(), plain, { json: false });
  await listPeers(host.driver(), json, { json: true });
  expect(plain.text).toContain('a?[2Jb');
  expect(plain.text).not.toContain('\u001b');
  const pruned = paper();
  await syncPeers(host.driver(), pruned, { desired: [], dryRun: true, prune: true });
  expect(pruned.text).toMatch(/^- remove a\?\[2Jb \S+\n1 changes to make\n$/);
  expect(JSON.parse(json.text)[0]).not.toHaveProperty('presharedKey');
});

test('a hashed password is printed for a shell and with doubled dollars for Compose', async () => {
  const text = await hashPassword('correct horse');
  const [, shell = ''] = /^PASSWORD_HASH='(\$2b\$12\$.{53})'$/m.exec(text) ?? [];
  expect(await verify('correct horse', shell)).toBe(true);
  expect(text).toContain(`PASSWORD_HASH=${shell.split('$').join('$$')}\n`);
  await expect(hashPassword('')).rejects.toThrow(UsageError);
  for (const wrong of ['x'.repeat(73), 'two\nlines', 'nul\0byte']) {
    await expect(hashPassword(wrong)).rejects.toThrow(UsageError);
  }
});

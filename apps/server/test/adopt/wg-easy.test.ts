import { insertPeer, insertServer, listAudit, updateServer, updateUser } from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { runAdopt } from '../../src/cli/adopt.ts';
import { cases, expectOnlyReads, openEasy } from './world.ts';

const ALICE = 'alice@example.com';
const BOB = 'bob@example.com';

describe.each(cases)('adopting a wg-easy $version, on $engine', (testCase) => {
  const open = (...clients: readonly string[]) => openEasy(testCase, clients);

  test('a dry run shows whose the peers would be, and writes nothing, neither there nor here', async () => {
    await using world = await open(ALICE, 'kitchen');
    const { observer, stub } = world;
    await observer.customer(ALICE, 1);
    const before = await observer.rows();
    const { rows } = await observer.adopt('--match-names');
    const [alice, kitchen] = [stub.named(ALICE)[0], stub.named('kitchen')[0]];
    expect(rows).toMatchObject([
      { publicKey: alice?.publicKey, name: ALICE, owner: ALICE, outcome: 'adopted', deniedFor: null },
      { publicKey: kitchen?.publicKey, name: 'kitchen', owner: null, outcome: 'foreign' },
    ]);
    const text = await observer.text('--match-names');
    expect(text).toContain(`${alice?.publicKey}  ${ALICE.padEnd(24)}  10.8.0.2/32`);
    expect(text).toContain('1 of 2 peers would be adopted; --apply does it. The host was only read.');
    expect(text).toContain('nobody named its owner');
    expect(await observer.rows()).toEqual(before);
    expectOnlyReads(world);
  });

  test('the plan is empty afterwards, driving the host writes nothing, and owners fetch configs that work', async () => {
    await using world = await open(ALICE, 'kitchen');
    const { observer, stub } = world;
    const alice = await observer.customer(ALICE, 1);
    expect(await observer.outcomes('--match-names', '--apply')).toEqual({ [ALICE]: 'adopted', kitchen: 'foreign' });
    const plan = await observer.plan();
    expect(plan).toMatchObject({ changes: [], conflicts: [], unchanged: 1, foreign: 1 });
    const peer = await observer.peerOf(alice);
    const [client] = stub.named(ALICE);
    expect(peer).toMatchObject({
      ...{ public_key: client?.publicKey, wg_ip: `${client?.address}/32`, key_origin: 'host', device_name: ALICE },
      ...{ applied_state: 'present', applied_version: peer.wanted_version, config_version: 1, address_index: null },
    });
    expect(await observer.drive()).toBe(0);
    expect(await observer.reread(peer)).toMatchObject({
      applied_state: 'present',
      last_error: null,
      config_version: 1,
    });
    expect(await observer.config(alice, peer)).toMatchObject({
      ...{ privateKey: client?.privateKey, presharedKey: client?.presharedKey },
      ...{ publicKey: stub.server.publicKey, endpoint: stub.server.endpoint },
      addresses: [peer.wg_ip, peer.wg_ip6].filter((address) => address !== null),
    });
    for (const secret of [client?.privateKey, client?.presharedKey]) expect(JSON.stringify(peer)).not.toContain(secret);
    expect(await observer.events()).not.toContainEqual(expect.stringMatching(/^peer\./));
    expectOnlyReads(world);
    expect(stub.peers()).toHaveLength(2);
  });

  test('a second --apply changes nothing', async () => {
    await using world = await open(ALICE);
    const { observer } = world;
    await observer.customer(ALICE, 1);
    await observer.adopt('--match-names', '--apply');
    const before = await observer.rows();
    expect(await observer.outcomes('--match-names', '--apply')).toEqual({ [ALICE]: 'ours' });
    expect(await observer.rows()).toEqual(before);
    expectOnlyReads(world);
  });

  test('a file names owners by key or by name, a name that two peers have names neither, and what is not there is told', async () => {
    await using world = await open('phone', 'phone', 'laptop', 'tablet');
    const { observer, stub } = world;
    const alice = await observer.customer(ALICE, 5);
    const file = await observer.file([
      `${stub.named('tablet')[0]?.publicKey}, user:${alice.id}, "Tablet, old"`,
      `phone, ${ALICE}`,
      `laptop, ${ALICE}`,
      `television, ${ALICE}`,
    ]);
    const { rows, missing } = await observer.adopt('--users', file, '--apply');
    expect(rows.map(({ name, outcome }) => [name, outcome])).toEqual(
      expect.arrayContaining([
        ['phone', 'ambiguous'],
        ['phone', 'ambiguous'],
        ['laptop', 'adopted'],
        ['tablet', 'adopted'],
      ]),
    );
    expect(missing).toEqual(['television']);
    const { body } = await observer.app.rest<{ device_name: string }[]>('GET', '/vpn_peers', { token: alice.token });
    expect(body.map(({ device_name }) => device_name).sort()).toEqual(['Tablet, old', 'laptop']);
  });

  test('who has not paid, is blocked or has too many devices is told beforehand, and only the plan acts on it', async () => {
    await using world = await open(ALICE, `${ALICE} 2`, BOB, 'carol@example.com', 'dave@example.com');
    const { observer, stub } = world;
    await observer.customer(ALICE, 1);
    await observer.customer(BOB);
    const carol = await observer.customer('carol@example.com', 1);
    await updateUser(observer.app.store, carol.id, {
      status: 'blocked',
      blocked_at: observer.app.services.clock.now(),
    });
    stub.edit(stub.named('dave@example.com')[0]?.id ?? '', { enabled: false });
    await observer.customer('dave@example.com', 1);
    stub.setTraffic(stub.named(`${ALICE} 2`)[0]?.id ?? '', { lastHandshakeAt: new Date() });
    const expected = {
      // Of two devices with room for one the one in use stays.
      [ALICE]: 'device_limit_exceeded',
      [`${ALICE} 2`]: null,
      [BOB]: 'no_subscription',
      'carol@example.com': 'blocked',
      'dave@example.com': null,
    };
    for (const flags of [[], ['--apply']]) {
      const { rows } = await observer.adopt('--match-names', ...flags);
      expect(rows.map(({ outcome }) => outcome)).toEqual(rows.map(() => 'adopted'));
      expect(Object.fromEntries(rows.map(({ name, deniedFor }) => [name, deniedFor]))).toEqual(expected);
    }
    expectOnlyReads(world);
    const { counts, changes } = await observer.plan();
    expect(counts).toEqual({ add: 0, change: 1, suspend: 3, remove: 0 });
    expect(changes.map(({ reason }) => reason).sort()).toEqual([
      ...['active', 'blocked', 'device_limit_exceeded', 'no_subscription'],
    ]);
  });

  test('an address that anybody may have registered gets nobody a config; naming the account does', async () => {
    await using world = await open(ALICE);
    const { observer } = world;
    const squatter = await observer.app.register(ALICE);
    expect(await observer.outcomes('--match-names', '--create-users', '--apply')).toEqual({
      [ALICE]: 'unproven_email',
    });
    const file = await observer.file([`${ALICE}, user:${squatter.id}`]);
    expect(await observer.outcomes('--users', file, '--apply')).toEqual({ [ALICE]: 'adopted' });
    expect((await observer.peerOf(squatter)).device_name).toBe(ALICE);
  });

  test('accounts are made only when told to, and an account that is named by its number never', async () => {
    await using world = await open(ALICE, 'tg 123456789', 'other');
    const { observer, stub } = world;
    const file = await observer.file(['other, user:4711']);
    const args = ['--match-names', '--users', file] as const;
    const none = { [ALICE]: 'no_user', 'tg 123456789': 'no_user', other: 'no_user' };
    expect(await observer.outcomes(...args, '--apply')).toEqual(none);
    const made = { [ALICE]: 'adopted', 'tg 123456789': 'adopted', other: 'no_user' };
    const before = await observer.rows();
    expect(await observer.outcomes(...args, '--create-users')).toEqual(made);
    expect(await observer.rows()).toEqual(before);
    expect(await observer.outcomes(...args, '--create-users', '--apply')).toEqual(made);
    const users = await observer.app.store.kysely
      .selectFrom('users')
      .select(['email', 'telegram_id', 'origin'])
      .execute();
    expect(users).toEqual(
      expect.arrayContaining([
        { email: ALICE, telegram_id: null, origin: 'service' },
        { email: null, telegram_id: 123_456_789, origin: 'service' },
      ]),
    );
    const actors = await listAudit(observer.app.store, { action: 'peer.adopt' }, {});
    expect(actors.map(({ actor }) => actor)).toEqual(['cli', 'cli']);
    expect(stub.mutations()).toEqual([]);
  });

  test('a server that is driven is refused: nobody loses a tunnel before a person has seen the plan', async () => {
    await using world = await open(ALICE);
    const { observer } = world;
    await observer.customer(ALICE, 1);
    await updateServer(observer.app.store, 1, { mode: 'apply' });
    const before = await observer.rows();
    await expect(observer.adopt('--match-names', '--apply')).rejects.toThrow('WG_APPLY_ENABLED=0');
    expect(await observer.rows()).toEqual(before);
    expect(await observer.outcomes('--match-names')).toEqual({ [ALICE]: 'adopted' });
    await expect(runAdopt(observer.app.services.config, ['--server', 'nowhere'])).rejects.toThrow('There is no server');
  });

  test('a key that another device has is left alone, and said so beforehand', async () => {
    await using world = await open(ALICE);
    const { observer, stub } = world;
    const alice = await observer.customer(ALICE, 2);
    const { store, services } = observer.app;
    const at = services.clock.now();
    await store.transaction(async (tx) => {
      const elsewhere = {
        name: 'other',
        driver: 'none',
        keys: 'given',
        mode: 'observe',
        pool_v4: '10.9.0.0/24',
      } as const;
      const { id } = await insertServer(tx, {
        ...elsewhere,
        client_allowed_ips: '0.0.0.0/0',
        origin: 'api',
        created_at: at,
      });
      await insertPeer(tx, {
        ...{
          user_id: alice.id,
          server_id: id,
          public_key: stub.named(ALICE)[0]?.publicKey ?? '',
          key_origin: 'client',
        },
        ...{ allowed_ips: '0.0.0.0/0', created_at: at },
      });
    });
    const before = await observer.rows();
    for (const flags of [[], ['--apply']]) {
      expect(await observer.outcomes('--match-names', ...flags)).toEqual({ [ALICE]: 'key_conflict' });
    }
    expect(await observer.rows()).toEqual(before);
  });

  test('peers without an address or a configuration of their own are left alone', async () => {
    await using world = await open(ALICE, `${ALICE} twin`, `${ALICE} odd`);
    const { observer, stub } = world;
    await observer.customer(ALICE, 5);
    const client = (name: string) => stub.named(name)[0];
    if (testCase.version === 14)
      stub.edit(client(`${ALICE} twin`)?.id ?? '', { address: client(ALICE)?.address ?? '' });
    else stub.edit(client(`${ALICE} twin`)?.id ?? '', { serverAllowedIps: ['192.168.1.0/24'] });
    const odd = `/api/${testCase.version === 14 ? 'wireguard/' : ''}client/${client(`${ALICE} odd`)?.id}/configuration`;
    stub.failNext('error', 1, ({ path }) => path === odd);
    const outcomes = await observer.outcomes('--match-names', '--apply');
    expect(outcomes).toEqual({
      [ALICE]: testCase.version === 14 ? 'address_conflict' : 'adopted',
      [`${ALICE} twin`]: 'address_conflict',
      [`${ALICE} odd`]: 'no_config',
    });
    expectOnlyReads(world);
  });

  test('names do nothing to a terminal, and no more than a device name to the database', async () => {
    const name = `${ALICE} \u001b[31m\u202e${'\u{1f600}'.repeat(80)}`;
    await using world = await open(name);
    const { observer } = world;
    const alice = await observer.customer(ALICE, 1);
    const text = await observer.text('--match-names', '--apply');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that they are not there is the point
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
    const { device_name } = await observer.peerOf(alice);
    expect(device_name).toBe(`${ALICE} [31m${'\u{1f600}'.repeat(64 - ALICE.length - 5)}`);
  });

  test('what went through before the adoption is not counted, what goes through later is', async () => {
    await using world = await open(ALICE);
    const { observer, stub } = world;
    const alice = await observer.customer(ALICE, 1);
    const id = stub.named(ALICE)[0]?.id ?? '';
    stub.setTraffic(id, { rx: 5_000, tx: 7_000, lastHandshakeAt: new Date() });
    await observer.adopt('--match-names', '--apply');
    await observer.drive();
    const peer = await observer.peerOf(alice);
    expect([peer.rx_bytes, peer.tx_bytes]).toEqual([0, 0]);
    expect(peer.last_handshake_at).not.toBeNull();
    stub.setTraffic(id, { rx: 5_100, tx: 7_010 });
    await observer.drive();
    const later = await observer.reread(peer);
    expect([later.rx_bytes, later.tx_bytes]).toEqual([100, 10]);
  });
});

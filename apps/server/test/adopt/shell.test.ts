import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { listPeersForUser } from '@vpn-api/db';
import { generateKeyPair, generatePresharedKey, type ObservedPeer, PRIVATE_KEY_PLACEHOLDER } from '@vpn-api/wg';
import { RecordingSshd, skipWithoutWireguard, startWireguardLab, type WireguardLab } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import { ok } from '../e2e/shop.ts';
import { type Answer, engines } from '../harness.ts';
import { Observer } from './world.ts';

const run = promisify(execFile);
const POOL = '10.95.0.0/24';
const POOL_V6 = 'fd00:95::/112';

interface OldPeer {
  readonly publicKey: string;
  readonly privateKey: string;
  readonly presharedKey: string;
}

interface OldHost extends AsyncDisposable {
  readonly lab: WireguardLab;
  readonly sshd: RecordingSshd;
  readonly observer: Observer;
  /** A peer as somebody put it there by hand, with a preshared key. */
  putPeer(allowedIps: string): Promise<OldPeer>;
  /** The peers in an order that stays: the tunnel's own does not. */
  dump(): Promise<ObservedPeer[]>;
  /** All that the host was asked to do, apart from showing what it has. */
  writes(): string[];
}

/** A host over SSH that is in use, added over the API and only observed. */
async function openHost(engine: (typeof engines)[number]): Promise<OldHost> {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'vpn-old-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const lab = stack.use(await startWireguardLab({ poolV4: POOL, poolV6: POOL_V6 }));
  const sshd = stack.use(await RecordingSshd.start());
  const observer = stack.use(await Observer.start(engine, { OUTBOUND_ALLOW: '127.0.0.0/8' }));
  const { token } = await observer.app.admin();
  const body = {
    ...{ name: 'old', driver: 'ssh', address: `${sshd.user}@${sshd.host}:${sshd.port}`, interface: lab.interface },
    ...{ credentials: { private_key: sshd.privateKey }, host_fingerprint: sshd.fingerprint },
    ...{ pool_v4: POOL, pool_v6: POOL_V6 },
  };
  const server = await ok(
    observer.app.rest<{ id: number } & Record<string, unknown>>('POST', '/servers', { token, body }),
  );
  observer.serverId = server.id;
  const owned = stack.move();
  return {
    ...{ lab, sshd, observer },
    putPeer: async (allowedIps) => {
      const peer = { ...generateKeyPair(), presharedKey: generatePresharedKey() };
      const file = join(folder, 'psk');
      await writeFile(file, peer.presharedKey);
      const args = ['peer', peer.publicKey, 'preshared-key', file, 'allowed-ips', allowedIps];
      await run('wg', ['set', lab.interface, ...args]);
      return peer;
    },
    dump: async () => (await lab.dump()).toSorted((a, b) => (a.publicKey < b.publicKey ? -1 : 1)),
    writes: () => sshd.runs.map(({ command }) => command).filter((command) => !/\bwg show\b/.test(command)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe.skipIf(skipWithoutWireguard()).each(engines)('adopting a host over SSH, on %s', (engine) => {
  test('keeps keys, preshared keys and addresses, sends nothing that writes, and owners keep the configs they have', async () => {
    await using host = await openHost(engine);
    const { lab, observer } = host;
    const alice = await observer.customer('alice@example.com', 2);
    const [phone, laptop, office] = [
      await host.putPeer('10.95.0.7/32'),
      await host.putPeer('10.95.0.9/32,fd00:95::9/128'),
      await host.putPeer('10.95.0.11/32,192.168.7.0/24'),
    ];
    const file = await observer.file(
      [phone, laptop, office].map(
        ({ publicKey }) => `${publicKey}, alice@example.com, Device of ${publicKey.slice(0, 4)}`,
      ),
    );
    const before = await host.dump();
    const expected = {
      [phone.publicKey]: 'adopted',
      [laptop.publicKey]: 'adopted',
      [office.publicKey]: 'address_conflict',
    };
    for (const flags of [[], ['--apply']]) expect(await observer.outcomes('--users', file, ...flags)).toEqual(expected);
    expect(await observer.plan()).toMatchObject({ changes: [], conflicts: [], unchanged: 2, foreign: 1 });
    expect(await observer.drive()).toBe(0);
    const again = { ...expected, [phone.publicKey]: 'ours', [laptop.publicKey]: 'ours' };
    await expect(observer.adopt('--users', file, '--apply')).rejects.toThrow('{ "mode": "observe" }');
    expect(await observer.outcomes('--users', file)).toEqual(again);
    expect(host.writes()).toEqual([]);
    expect(await host.dump()).toEqual(before);

    const adopted = await listPeersForUser(observer.app.store, alice.id);
    const peers = adopted.toSorted((a, b) => (a.address_index ?? 0) - (b.address_index ?? 0));
    expect(peers).toMatchObject([
      { public_key: phone.publicKey, key_origin: 'client', address_index: 7, wg_ip: '10.95.0.7/32', wg_ip6: null },
      { public_key: laptop.publicKey, address_index: 9, wg_ip: '10.95.0.9/32', wg_ip6: 'fd00:95::9/128' },
    ]);
    expect(JSON.stringify(peers)).not.toContain(phone.presharedKey);
    for (const [peer, old] of [
      [peers[0], phone],
      [peers[1], laptop],
    ] as const) {
      const path = `/vpn_peers/${peer?.id}/config`;
      const refused: Answer = await observer.app.rest('GET', path, { token: alice.token });
      expect([refused.status, refused.body.code]).toEqual([409, 'private_key_not_stored']);
      const { wg_quick } = await ok(
        observer.app.rest<{ wg_quick: string }>('GET', `${path}?template=true`, { token: alice.token }),
      );
      expect(wg_quick).toContain(`PrivateKey = ${PRIVATE_KEY_PLACEHOLDER}\n`);
      expect(wg_quick).toContain(`PresharedKey = ${old.presharedKey}\n`);
      expect(wg_quick).toContain(`PublicKey = ${lab.publicKey}\n`);
    }
  });

  test('gives the next device an address behind the adopted ones, and takes off those who did not pay', async () => {
    await using host = await openHost(engine);
    const { lab, observer } = host;
    const [bob, carol] = [await observer.customer('bob@example.com', 2), await observer.customer('carol@example.com')];
    const [old, unpaid] = [await host.putPeer('10.95.0.20/32'), await host.putPeer('10.95.0.30/32')];
    const file = await observer.file([`${old.publicKey}, bob@example.com`, `${unpaid.publicKey}, user:${carol.id}`]);
    await observer.adopt('--users', file, '--apply');
    expect((await observer.plan()).changes).toMatchObject([{ action: 'suspend', reason: 'no_subscription' }]);
    const { token } = await observer.app.admin();
    const body = { user_id: bob.id, server_id: observer.serverId };
    const { wg_ip } = await ok(observer.app.rest<Record<string, unknown>>('POST', '/vpn_peers', { token, body }));
    expect(wg_ip).toBe('10.95.0.31/32');
    await observer.drive();
    const onHost = (await lab.dump()).map(({ publicKey, presharedKey, allowedIps }) => ({
      publicKey,
      presharedKey,
      allowedIps,
    }));
    const { publicKey, presharedKey } = old;
    expect(onHost).toHaveLength(2);
    expect(onHost).toContainEqual({ publicKey, presharedKey, allowedIps: ['10.95.0.20/32'] });
  });
});

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addressAt, parsePool, peerAddresses } from '../src/address.ts';
import { printClientConfig } from '../src/client-config.ts';
import { conformanceChecks } from '../src/conformance.ts';
import { diffPeers } from '../src/diff.ts';
import { DriverError, type SetPeer, type WgDriver } from '../src/driver.ts';
import { generateKeyPair, generatePresharedKey, type PublicKey } from '../src/keys.ts';
import { openLocalDriver } from '../src/shell/shell-driver.ts';
import { skipWithoutWireguard, startWireguardLab, type WireguardLab } from './wireguard-lab.ts';

const POOL = '10.99.0.0/16';
const signal = () => AbortSignal.timeout(60_000);

describe.skipIf(skipWithoutWireguard())('the shell driver on a real interface', () => {
  let lab: WireguardLab;
  let driver: WgDriver;

  beforeAll(async () => {
    lab = await startWireguardLab({ poolV4: POOL, poolV6: 'fd99::/64' });
    driver = openLocalDriver({ interface: lab.interface });
  });

  afterAll(async () => {
    await driver?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const clear = async () => {
    const peers = await lab.dump();
    await driver.apply(
      peers.map(({ publicKey }) => ({ type: 'remove', publicKey, tag: null })),
      signal(),
    );
  };
  const subject = async () => ({
    driver,
    pool: POOL,
    manyPeers: 2000,
    addForeignPeer: (address: string) => lab.addForeignPeer(address),
    [Symbol.asyncDispose]: clear,
  });

  describe('conforms', () => {
    for (const check of conformanceChecks.filter(({ keys }) => keys.includes('given'))) {
      test(check.name, () => check.run(subject));
    }
  });

  test('describe tells the key and the port the interface has', async () => {
    expect(await driver.describe(signal())).toEqual({ publicKey: lab.publicKey, listenPort: lab.listenPort });
  });

  test('a missing interface is told from a refusing host', async () => {
    await using missing = openLocalDriver({ interface: 'wg-not-there' });
    const isMissing = (error: unknown) => error instanceof DriverError && error.code === 'interface_missing';
    await expect(missing.list(signal())).rejects.toSatisfy(isMissing);
    await expect(missing.apply([newPeer(2)], signal())).rejects.toSatisfy(isMissing);
  });

  test('ten thousand peers are put on the host in one call, and one pass of the diff takes them off', async () => {
    const peers = Array.from({ length: 10_000 }, (_, n) => newPeer(n + 2));
    const results = await driver.apply(peers, signal());
    expect(results.every(({ outcome }) => outcome === 'applied')).toBe(true);
    const observed = await driver.list(signal());
    const ours = new Set(peers.map(({ publicKey }) => publicKey as PublicKey));
    const desired = peers.map(({ type: _, ...peer }) => ({ ...peer, state: 'present' as const }));
    expect(diffPeers({ desired, observed, ours })).toMatchObject({ changes: [], unchanged: 10_000 });
    const gone = diffPeers({ desired: [], observed, ours }).changes;
    await driver.apply(gone, signal());
    expect(await driver.list(signal())).toEqual([]);
  });

  test('an issued config connects, is cut by a suspension, and connects again', async () => {
    const pool = parsePool(POOL);
    const { privateKey, publicKey } = generateKeyPair();
    const { v4, v6 } = peerAddresses(pool, parsePool('fd99::/64'), 14);
    const presharedKey = generatePresharedKey();
    const set: SetPeer = { type: 'set', publicKey, presharedKey, addresses: [v4, v6 as string], tag: 'device' };
    await driver.apply([set], signal());
    await lab.connectClient(
      printClientConfig({
        privateKey,
        presharedKey,
        publicKey: lab.publicKey,
        addresses: [v4, v6 as string],
        dns: ['1.1.1.1'],
        mtu: 1420,
        allowedIps: ['0.0.0.0/0', '::/0'],
        persistentKeepalive: 1,
        endpoint: lab.endpoint,
      }),
    );
    expect(await lab.ping(10_000)).toBe(true);
    const [peer] = await driver.list(signal());
    expect(peer?.lastHandshakeAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/);
    expect(peer?.endpoint).toMatch(/^192\.0\.2\.2:\d+$/);
    expect([peer?.rxBytes, peer?.txBytes].every((bytes) => (bytes ?? 0) > 0)).toBe(true);

    await driver.apply([{ type: 'suspend', publicKey, tag: 'device' }], signal());
    expect(await lab.ping(1_500)).toBe(false);
    await driver.apply([set], signal());
    expect(await lab.ping(30_000)).toBe(true);
    await lab.removePeer(publicKey);
    expect(await lab.dump()).toEqual([]);
  });

  function newPeer(index: number): SetPeer {
    const address = `${addressAt(parsePool(POOL), index)}/32`;
    const presharedKey = generatePresharedKey();
    return {
      type: 'set',
      publicKey: generateKeyPair().publicKey,
      presharedKey,
      addresses: [address],
      tag: `p${index}`,
    };
  }
});

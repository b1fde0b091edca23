import { describe, expect, test } from 'vitest';
import { type ConformanceSubject, conformanceChecks } from '../src/conformance.ts';
import { DriverError, type ObservedPeer, type SetPeer, type WgDriver } from '../src/driver.ts';
import { FakeHost } from '../src/fake.ts';
import { generateKeyPair } from '../src/keys.ts';
import { NoneDriver } from '../src/none.ts';

const POOL = '10.8.0.0/16';
const signal = () => AbortSignal.timeout(10_000);

function fakeSubject(keys: WgDriver['keys'], suspend: WgDriver['suspend']): () => Promise<ConformanceSubject> {
  return async () => {
    const host = new FakeHost({ keys, suspend, pool: POOL });
    return {
      driver: host.driver(),
      pool: POOL,
      manyPeers: 2000,
      addForeignPeer: async (address) => host.addForeignPeer([address]),
      [Symbol.asyncDispose]: async () => {},
    };
  };
}

async function noneSubject(): Promise<ConformanceSubject> {
  const driver = new NoneDriver({ publicKey: generateKeyPair().publicKey });
  return {
    driver,
    pool: POOL,
    manyPeers: 2000,
    // Nothing but the driver can reach a host that does not exist.
    addForeignPeer: async (address) => {
      const { publicKey } = generateKeyPair();
      await driver.apply(
        [{ type: 'set', publicKey, presharedKey: null, addresses: [address], tag: 'foreign' }],
        signal(),
      );
      return publicKey;
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

const subjects = [
  ['the fake that is given keys and removes', 'given', fakeSubject('given', 'remove')],
  ['the fake that is given keys and disables', 'given', fakeSubject('given', 'disable')],
  ['the fake that makes keys and disables', 'reported', fakeSubject('reported', 'disable')],
  ['no host at all', 'given', noneSubject],
] as const;

describe.each(subjects)('%s conforms', (_, keys, makeSubject) => {
  for (const check of conformanceChecks.filter((one) => one.keys.includes(keys))) {
    test(check.name, () => check.run(makeSubject));
  }
});

describe('the conformance suite', () => {
  test('finds a driver that says "applied" and does nothing', async () => {
    const makeSubject = async () => {
      const host = new FakeHost();
      host.fault = 'drop_changes';
      return { ...(await fakeSubject('given', 'remove')()), driver: host.driver() };
    };
    const broken = conformanceChecks.filter(({ name }) => /added|removed|suspended|many|update/.test(name));
    expect(broken.length).toBeGreaterThan(4);
    for (const check of broken) await expect(check.run(makeSubject), check.name).rejects.toThrow();
  });
});

describe('the faults of the fake', () => {
  const newPeer = (): SetPeer => ({
    type: 'set',
    publicKey: generateKeyPair().publicKey,
    presharedKey: null,
    addresses: ['10.8.0.2/32'],
    tag: 'p',
  });

  test.each([
    ['down', 'unreachable', false, 0],
    ['refuse', 'refused', false, 0],
    ['lose_answer', 'unknown_outcome', true, 1],
  ] as const)('%s is the error %s (outcome unknown: %s)', async (fault, code, outcomeUnknown, peers) => {
    const host = new FakeHost();
    host.failNext(fault);
    const error = await host
      .driver()
      .apply([newPeer()], signal())
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'DriverError', code, outcomeUnknown });
    expect(host.peers()).toHaveLength(peers);
    await expect(host.driver().list(signal())).resolves.toHaveLength(peers);
  });

  test('a hanging host ends with the signal', async () => {
    const host = new FakeHost();
    host.fault = 'hang';
    const controller = new AbortController();
    const listing = host.driver().list(controller.signal);
    controller.abort();
    await expect(listing).rejects.toSatisfy((error) => error instanceof DriverError && error.code === 'timeout');
  });

  test('latency is slept by the function that was given', async () => {
    const slept: number[] = [];
    const host = new FakeHost({ latencyMs: 250, sleep: async (ms) => void slept.push(ms) });
    await host.driver().list(signal());
    expect(slept).toEqual([250]);
  });

  test('calls are recorded with their changes', async () => {
    const host = new FakeHost();
    const peer = newPeer();
    await host.driver().apply([peer], signal());
    expect(host.calls).toEqual([{ method: 'apply', changes: [peer] }]);
  });

  test('a handshake can be put there', async () => {
    const host = new FakeHost();
    const { publicKey } = generateKeyPair();
    const seen: Partial<ObservedPeer> = {
      endpoint: '198.51.100.7:4242',
      lastHandshakeAt: '2026-11-22T12:00:00.000Z',
      rxBytes: 5,
      txBytes: 7,
    };
    host.put({ publicKey, ...seen });
    await expect(host.driver().list(signal())).resolves.toMatchObject([{ publicKey, ...seen }]);
  });

  test('an address given to another peer is lost to the first, as in WireGuard', async () => {
    const host = new FakeHost();
    const [first, second] = [newPeer(), newPeer()];
    await host.driver().apply([first, second], signal());
    expect(host.peers().map(({ allowedIps }) => allowedIps)).toEqual([[], ['10.8.0.2/32']]);
  });
});

import assert from 'node:assert/strict';
import { addressAt, FIRST_PEER_INDEX, parsePool } from './address.ts';
import { type ChangeResult, DriverError, type ObservedPeer, type PeerChange, type WgDriver } from './driver.ts';
import { generateKeyPair, generatePresharedKey, type PublicKey } from './keys.ts';

/** A fresh host without peers and a driver for it. */
export interface ConformanceSubject extends AsyncDisposable {
  readonly driver: WgDriver;
  /** An IPv4 pool with room for `manyPeers`, whose last address nobody uses but {@link addForeignPeer}. */
  readonly pool: string;
  /** Who chooses addresses on a host that makes the keys. Default: the host. */
  readonly addresses?: 'given' | 'reported';
  /** How many peers "many" is: at least 2000 unless the host cannot. */
  readonly manyPeers: number;
  /** Puts a peer there by other means than the driver, with exactly this address. */
  addForeignPeer(address: string): Promise<PublicKey>;
}

export interface ConformanceCheck {
  readonly name: string;
  /** The key modes the guarantee exists for. */
  readonly keys: readonly WgDriver['keys'][];
  /** Throws an `AssertionError` when the driver breaks the guarantee. */
  run(makeSubject: () => Promise<ConformanceSubject>): Promise<void>;
}

/**
 * What every driver guarantees. Independent of any test runner:
 *
 * ```ts
 * for (const check of conformanceChecks.filter((c) => c.keys.includes('given'))) {
 *   test(check.name, () => check.run(makeSubject));
 * }
 * ```
 */
export const conformanceChecks: readonly ConformanceCheck[] = [
  both('describe tells the public key of the interface', async ({ driver }) => {
    assert.match((await driver.describe(soon())).publicKey, /^[A-Za-z0-9+/]{43}=$/);
  }),
  both('a host without peers lists none', async ({ driver }) => {
    assert.deepEqual(await driver.list(soon()), []);
  }),
  both('an added peer is listed, enabled, with what was asked or reported', async (subject) => {
    const peer = await add(subject, 0);
    const [listed, ...others] = await subject.driver.list(soon());
    assert.equal(others.length, 0);
    assertShows(listed, peer);
  }),
  both('a new peer has neither handshake nor traffic', async (subject) => {
    const { publicKey } = await add(subject, 0);
    const peer = await find(subject.driver, publicKey);
    assert.deepEqual([peer?.endpoint, peer?.lastHandshakeAt, peer?.rxBytes, peer?.txBytes], [null, null, 0, 0]);
  }),
  given('an update replaces the addresses and keeps the peer', async (subject) => {
    const peer = await add(subject, 0);
    const moved = { ...peer, addresses: [addressOf(subject, 5)] };
    await applyAll(subject.driver, [moved]);
    const listed = await subject.driver.list(soon());
    assert.equal(listed.length, 1);
    assertShows(listed[0], moved);
  }),
  given('an update replaces and clears the preshared key', async (subject) => {
    const peer = { ...(await add(subject, 0)), presharedKey: generatePresharedKey() };
    await applyAll(subject.driver, [peer]);
    assertShows(await find(subject.driver, peer.publicKey), peer);
    const open = { ...peer, presharedKey: null };
    await applyAll(subject.driver, [open]);
    assertShows(await find(subject.driver, peer.publicKey), open);
  }),
  given('a change that cannot be sent fails by itself, and the others are made', async (subject) => {
    const wide = { ...newPeer(subject, 0), addresses: ['0.0.0.0/0'] };
    const lines = { ...newPeer(subject, 1), addresses: [`${addressOf(subject, 1)}\nPostUp = id`] };
    const keyless = { ...newPeer(subject, 2), publicKey: 'not a key' as PublicKey };
    const good = newPeer(subject, 3);
    const results = await subject.driver.apply([wide, lines, keyless, good], soon());
    assert.deepEqual(
      results.map(({ outcome }) => outcome),
      ['failed', 'failed', 'failed', 'applied'],
    );
    assert.deepEqual(
      (await subject.driver.list(soon())).map(({ publicKey }) => publicKey),
      [good.publicKey],
    );
  }),
  both('a suspended peer is disabled or gone, as the driver promises, and comes back with a set', async (subject) => {
    const { driver } = subject;
    const peer = await add(subject, 0);
    await applyAll(driver, [{ type: 'suspend', publicKey: peer.publicKey, tag: peer.tag }]);
    const suspended = await find(driver, peer.publicKey);
    assert.equal(suspended?.enabled, driver.suspend === 'disable' ? false : undefined);
    await applyAll(driver, [peer]);
    assertShows(await find(driver, peer.publicKey), peer);
  }),
  both('a removed peer is gone, and only that one', async (subject) => {
    const [gone, stays] = [await add(subject, 0), await add(subject, 1)];
    await applyAll(subject.driver, [{ type: 'remove', publicKey: gone.publicKey, tag: gone.tag }]);
    const listed = await subject.driver.list(soon());
    assert.deepEqual(
      listed.map(({ publicKey }) => publicKey),
      [stays.publicKey],
    );
  }),
  both('removing or suspending an unknown peer counts as applied', async ({ driver }) => {
    const [first, second] = [generateKeyPair().publicKey, generateKeyPair().publicKey];
    await applyAll(driver, [
      { type: 'remove', publicKey: first, tag: 'nobody-1' },
      { type: 'suspend', publicKey: second, tag: 'nobody-2' },
    ]);
    assert.deepEqual(await driver.list(soon()), []);
  }),
  both('repeating a change changes nothing', async (subject) => {
    const { driver } = subject;
    const peer = await add(subject, 0);
    const before = await driver.list(soon());
    await applyAll(driver, [peer, peer]);
    assert.deepEqual(await driver.list(soon()), before);
  }),
  {
    name: 'a repeated set without a key reports the peer that is there already',
    keys: ['reported'],
    run: withSubject(async (subject) => {
      const peer = await add(subject, 0);
      const [again] = await subject.driver.apply([{ ...peer, publicKey: null }], soon());
      assert.equal(reportedOf(again).publicKey, peer.publicKey);
      assert.equal((await subject.driver.list(soon())).length, 1);
    }),
  },
  both('changes are made in their order', async (subject) => {
    const peer = await add(subject, 0);
    const remove = { type: 'remove', publicKey: peer.publicKey, tag: peer.tag } as const;
    await applyAll(subject.driver, [remove, { ...peer, ...freshKey(subject) }, remove]);
    assert.equal(await find(subject.driver, peer.publicKey), undefined);
  }),
  both('many peers come and go in one call', async (subject) => {
    const { driver, manyPeers } = subject;
    const wanted = Array.from({ length: manyPeers }, (_, n) => newPeer(subject, n));
    await applyAll(driver, wanted);
    const listed = await driver.list(AbortSignal.timeout(MANY_MS));
    assert.equal(listed.length, manyPeers);
    const addresses = listed.flatMap(({ allowedIps }) => allowedIps);
    assert.ok(addresses.length >= manyPeers);
    assert.equal(new Set(addresses).size, addresses.length);
    await applyAll(
      driver,
      listed.map(({ publicKey }) => ({ type: 'remove', publicKey, tag: null })),
    );
    assert.deepEqual(await driver.list(soon()), []);
  }),
  both('a foreign peer is listed and never touched', async (subject) => {
    const { driver } = subject;
    const pool = parsePool(subject.pool);
    const foreign = await subject.addForeignPeer(`${addressAt(pool, pool.lastIndex)}/32`);
    const before = await find(driver, foreign);
    assert.ok(before);
    const peer = await add(subject, 0);
    await applyAll(driver, [
      { type: 'suspend', publicKey: peer.publicKey, tag: peer.tag },
      { type: 'remove', publicKey: peer.publicKey, tag: peer.tag },
    ]);
    assert.deepEqual(await driver.list(soon()), [before]);
  }),
  both('no changes are no work', async ({ driver }) => {
    assert.deepEqual(await driver.apply([], soon()), []);
  }),
  both('an aborted signal is a timeout, and nothing is changed', async (subject) => {
    const { driver } = subject;
    const aborted = AbortSignal.abort();
    for (const call of [
      () => driver.describe(aborted),
      () => driver.list(aborted),
      () => driver.apply([newPeer(subject, 0)], aborted),
    ]) {
      await assert.rejects(call, (error) => error instanceof DriverError && error.code === 'timeout');
    }
    assert.deepEqual(await driver.list(soon()), []);
  }),
];

type SetWithKey = Extract<PeerChange, { type: 'set' }>;
type KnownPeer = SetWithKey & { readonly publicKey: PublicKey };

/** Long enough for a busy machine; a driver that needs it all hangs. */
const SOON_MS = 30_000;
/** wg-easy makes its peers one by one. */
const MANY_MS = 180_000;

function soon(): AbortSignal {
  return AbortSignal.timeout(SOON_MS);
}

function both(name: string, check: (subject: ConformanceSubject) => Promise<void>): ConformanceCheck {
  return { name, keys: ['given', 'reported'], run: withSubject(check) };
}

function given(name: string, check: (subject: ConformanceSubject) => Promise<void>): ConformanceCheck {
  return { name, keys: ['given'], run: withSubject(check) };
}

function withSubject(check: (subject: ConformanceSubject) => Promise<void>): ConformanceCheck['run'] {
  return async (makeSubject) => {
    await using subject = await makeSubject();
    await check(subject);
  };
}

function addressOf({ pool }: ConformanceSubject, n: number): string {
  return `${addressAt(parsePool(pool), FIRST_PEER_INDEX + n)}/32`;
}

function newPeer(subject: ConformanceSubject, n: number): SetWithKey {
  const common = { type: 'set', tag: `conformance-${n}` } as const;
  if (subject.driver.keys === 'reported') {
    const addresses = subject.addresses === 'given' ? [addressOf(subject, n)] : [];
    return { ...common, publicKey: null, presharedKey: null, addresses };
  }
  const presharedKey = n % 2 === 0 ? generatePresharedKey() : null;
  return { ...common, publicKey: generateKeyPair().publicKey, presharedKey, addresses: [addressOf(subject, n)] };
}

/** A host that makes its keys cannot be told to make one again. */
function freshKey({ driver }: ConformanceSubject): { readonly publicKey?: null } {
  return driver.keys === 'reported' ? { publicKey: null } : {};
}

async function add(subject: ConformanceSubject, n: number): Promise<KnownPeer> {
  const wanted = newPeer(subject, n);
  const [result] = await applyAll(subject.driver, [wanted]);
  if (wanted.publicKey !== null) return { ...wanted, publicKey: wanted.publicKey };
  const { publicKey, presharedKey, addresses } = reportedOf(result);
  return { ...wanted, publicKey, presharedKey, addresses };
}

async function applyAll(driver: WgDriver, changes: readonly PeerChange[]): Promise<ChangeResult[]> {
  const results = await driver.apply(changes, AbortSignal.timeout(MANY_MS));
  assert.equal(results.length, changes.length);
  const unmade = results.filter(({ outcome }) => outcome !== 'applied');
  assert.deepEqual(unmade, []);
  return results;
}

function reportedOf(result: ChangeResult | undefined) {
  assert.equal(result?.outcome, 'applied');
  assert.ok(result.reported, 'a set on a host that makes the keys reports them');
  return result.reported;
}

async function find(driver: WgDriver, publicKey: PublicKey): Promise<ObservedPeer | undefined> {
  return (await driver.list(soon())).find((peer) => peer.publicKey === publicKey);
}

function assertShows(observed: ObservedPeer | undefined, wanted: KnownPeer): void {
  assert.ok(observed, 'the peer is not listed');
  assert.equal(observed.publicKey, wanted.publicKey);
  assert.equal(observed.enabled, true);
  assert.deepEqual([...observed.allowedIps].sort(), [...wanted.addresses].sort());
  // undefined: the host does not show it.
  if (observed.presharedKey !== undefined) assert.equal(observed.presharedKey, wanted.presharedKey);
}

import { describe, expect, test } from 'vitest';
import { type DesiredPeer, diffPeers } from '../../src/diff.ts';
import { type ChangeResult, DriverError, type PeerChange } from '../../src/driver.ts';
import type { PublicKey } from '../../src/keys.ts';
import type { WgEasyDriver } from '../../src/wg-easy/wg-easy-driver.ts';
import { openStub } from './open-stub.ts';
import type { StubClient, WgEasyFault } from './stub.ts';

/** Everything the stub can do, often enough that hardly a batch goes by without. */
const FAULTS: readonly WgEasyFault[] = [
  'drop',
  'work_then_drop',
  'work_then_500',
  'error',
  'gateway',
  'hang',
  'drip',
  'huge',
  'html',
  'redirect',
  'silent',
  'duplicate',
  'empty_list',
  'proto',
  'restart',
  'work_then_restart',
];
const PEERS = 500;
const MAX_PASSES = 40;

/** A caller with rows for its peers, as the server has them: what it wants, and what it was told. */
class Caller {
  readonly desired = new Map<string, DesiredPeer>();
  /** Every key that was ever reported. */
  readonly ours = new Set<PublicKey>();
  newKeys = 0;
  readonly #driver: WgEasyDriver;

  constructor(driver: WgEasyDriver) {
    this.#driver = driver;
  }

  want(tag: string, state: DesiredPeer['state']): void {
    const before = this.desired.get(tag);
    this.desired.set(tag, { tag, publicKey: null, presharedKey: null, addresses: [], ...before, state });
  }

  /** Lists, compares, changes, writes down what was reported. Answers how many changes there were, null for a failure. */
  async pass(): Promise<number | null> {
    try {
      const observed = await this.#driver.list(AbortSignal.timeout(5_000));
      const ourTags = new Set(this.desired.keys());
      const { changes } = diffPeers({ desired: [...this.desired.values()], observed, ours: this.ours, ourTags });
      const results = await this.#driver.apply(changes, AbortSignal.timeout(20_000));
      changes.forEach((change, index) => {
        this.#record(change, results[index]);
      });
      return changes.length;
    } catch (error) {
      if (!(error instanceof DriverError)) throw error;
      return null;
    }
  }

  #record(change: PeerChange, result: ChangeResult | undefined): void {
    if (change.type !== 'set' || result?.outcome !== 'applied' || result.reported === undefined) return;
    const { publicKey, addresses } = result.reported;
    const before = this.desired.get(change.tag);
    if (before?.publicKey !== null && before?.publicKey !== publicKey) this.newKeys += 1;
    this.ours.add(publicKey);
    this.desired.set(change.tag, { ...(before as DesiredPeer), publicKey, addresses });
  }
}

describe.each([14, 15] as const)('wg-easy %i that fails in every way', (version) => {
  test('500 peers converge to one client each: no orphan, no twin, no foreign client touched', async () => {
    const foreignNames = ['by hand', 'tag-0 ', 'tag-1000', 'Tag-1', '__proto__'];
    await using open = await openStub(
      { version, clients: foreignNames, pool: '10.8.0.0/21', seed: 7 },
      { requestMs: 100, maxAnswerBytes: 4 * 1024 * 1024 },
    );
    const { stub } = open;
    const foreign = snapshot(stub.clients());
    const caller = new Caller(open.driver);
    for (let n = 0; n < PEERS; n += 1) caller.want(`tag-${n}`, 'present');

    stub.chaos({ reads: 0.05, changes: 0.2, faults: FAULTS });
    await passes(caller, 14);
    // Half-way some are suspended, some are not wanted any more, and somebody deletes, disables and doubles some by hand.
    for (let n = 0; n < 50; n += 1) caller.want(`tag-${n}`, 'suspended');
    for (let n = 50; n < 100; n += 1) caller.want(`tag-${n}`, 'absent');
    for (const n of [200, 201, 202]) for (const { id } of stub.named(`tag-${n}`)) stub.delete(id);
    for (const n of [210, 211, 212]) for (const { id } of stub.named(`tag-${n}`)) stub.edit(id, { enabled: false });
    for (const n of [220, 221, 222]) stub.add(`tag-${n}`);
    await passes(caller, 12);
    // Nobody listens for a while.
    await stub.goDown();
    expect([await caller.pass(), await caller.pass()]).toEqual([null, null]);
    await stub.comeUp();
    await passes(caller, 2);
    stub.chaos(null);
    let changes: number | null = null;
    for (let n = 0; n < MAX_PASSES && changes !== 0; n += 1) changes = await caller.pass();

    expect(changes).toBe(0);
    const mine = stub.clients().filter(({ name }) => !foreignNames.includes(String(name)));
    expect(mine.map(({ name }) => name).toSorted()).toEqual(expectedNames());
    for (const { name, publicKey, enabled } of mine) {
      const wish = caller.desired.get(String(name));
      expect([publicKey, enabled]).toEqual([wish?.publicKey, wish?.state === 'present']);
    }
    expect(snapshot(stub.clients().filter(({ name }) => foreignNames.includes(String(name))))).toEqual(foreign);
    expect(stub.peers().toSorted()).toEqual(
      stub
        .clients()
        .flatMap(({ enabled, publicKey }) => (enabled ? publicKey : []))
        .toSorted(),
    );
    expect(stub.maxConcurrentMutations).toBe(1);
    expect(stub.isFileCorrupt).toBe(false);
    // Only the three that were deleted by hand lost their keys.
    expect(caller.newKeys).toBeLessThanOrEqual(3);
    const faults = stub.requests.flatMap(({ fault }) => fault ?? []);
    expect(new Set(faults).size).toBe(FAULTS.length);
    expect(faults.length).toBeGreaterThan(100);
  });
});

async function passes(caller: Caller, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await caller.pass();
}

function expectedNames(): string[] {
  const all = Array.from({ length: PEERS }, (_, n) => n).filter((n) => n < 50 || n >= 100);
  return all.map((n) => `tag-${n}`).toSorted();
}

function snapshot(clients: readonly StubClient[]): unknown {
  return structuredClone(
    clients.map(({ createdAt, updatedAt, ...client }) => ({ ...client, at: [+createdAt, +updatedAt] })),
  );
}

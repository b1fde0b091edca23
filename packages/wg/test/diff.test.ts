import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DesiredPeer, diffPeers } from '../src/diff.ts';
import type { ObservedPeer, PeerChange } from '../src/driver.ts';
import type { PresharedKey, PublicKey } from '../src/keys.ts';

// The diff compares keys and never looks into them, so short names do.
const key = (name: string) => name as PublicKey;
const psk = (name: string) => name as PresharedKey;
const address = (n: number) => `10.8.0.${n}/32`;

function desired(name: string, fields: Partial<DesiredPeer> = {}): DesiredPeer {
  return {
    tag: `t-${name}`,
    state: 'present',
    publicKey: key(name),
    presharedKey: null,
    addresses: [address(2)],
    ...fields,
  };
}

function observed(name: string, fields: Partial<ObservedPeer> = {}): ObservedPeer {
  return {
    publicKey: key(name),
    presharedKey: null,
    allowedIps: [address(2)],
    enabled: true,
    endpoint: null,
    lastHandshakeAt: null,
    rxBytes: 0,
    txBytes: 0,
    ...fields,
  };
}

const ours = (...names: string[]) => new Set(names.map(key));
const brief = (changes: readonly PeerChange[]) => changes.map(({ type, publicKey }) => `${type} ${publicKey}`);

describe('a peer of ours', () => {
  test('that is as desired needs nothing', () => {
    const diff = diffPeers({ desired: [desired('a')], observed: [observed('a')], ours: ours('a') });
    expect(diff).toEqual({ changes: [], unchanged: 1, foreign: [], conflicts: [] });
  });

  test.each([
    ['missing', []],
    ['with another address', [observed('a', { allowedIps: [address(3)] })]],
    ['with an address too many', [observed('a', { allowedIps: [address(2), '0.0.0.0/0'] })]],
    ['without address', [observed('a', { allowedIps: [] })]],
    ['with a preshared key', [observed('a', { presharedKey: psk('p') })]],
    ['disabled', [observed('a', { enabled: false })]],
  ])('%s is set', (_, peers) => {
    const diff = diffPeers({ desired: [desired('a')], observed: peers, ours: ours('a') });
    expect(diff.changes).toEqual([
      { type: 'set', tag: 't-a', publicKey: 'a', presharedKey: null, addresses: [address(2)] },
    ]);
  });

  test('whose preshared key the host does not show is not set for it', () => {
    const peers = [observed('a', { presharedKey: undefined })];
    const diff = diffPeers({ desired: [desired('a', { presharedKey: psk('p') })], observed: peers, ours: ours('a') });
    expect(diff.changes).toEqual([]);
  });

  test.each([
    ['suspended', 'suspend a'],
    ['absent', 'remove a'],
  ] as const)('wanted %s is taken off', (state, change) => {
    const diff = diffPeers({ desired: [desired('a', { state })], observed: [observed('a')], ours: ours('a') });
    expect(brief(diff.changes)).toEqual([change]);
  });

  test.each(['suspended', 'absent'] as const)('wanted %s and not there needs nothing', (state) => {
    expect(diffPeers({ desired: [desired('a', { state })], observed: [], ours: ours('a') })).toMatchObject({
      changes: [],
      unchanged: 1,
    });
  });

  test('suspended and disabled already needs nothing', () => {
    const peers = [observed('a', { enabled: false })];
    expect(
      diffPeers({ desired: [desired('a', { state: 'suspended' })], observed: peers, ours: ours('a') }).changes,
    ).toEqual([]);
  });

  test('that nobody wants is removed', () => {
    expect(brief(diffPeers({ desired: [], observed: [observed('old')], ours: ours('old') }).changes)).toEqual([
      'remove old',
    ]);
  });

  test('of a rotated device leaves before its successor gets the address', () => {
    const diff = diffPeers({ desired: [desired('new')], observed: [observed('old')], ours: ours('old', 'new') });
    expect(brief(diff.changes)).toEqual(['remove old', 'set new']);
  });
});

describe('foreign peers', () => {
  test('are shown and not touched', () => {
    const stranger = observed('x', { allowedIps: [address(9)] });
    const diff = diffPeers({ desired: [desired('a')], observed: [stranger], ours: ours('a') });
    expect(diff.foreign).toEqual([stranger]);
    expect(brief(diff.changes)).toEqual(['set a']);
  });

  test.each(['present', 'suspended', 'absent'] as const)('keep a key that is wanted %s', (state) => {
    const diff = diffPeers({ desired: [desired('a', { state })], observed: [observed('a')], ours: ours() });
    expect(diff.changes).toEqual([]);
    expect(diff.conflicts).toEqual(
      state === 'present' ? [{ kind: 'key_conflict', tag: 't-a', publicKey: 'a', heldBy: 'a' }] : [],
    );
  });

  test.each([[address(2)], ['10.8.0.0/24'], ['10.0.0.0/8']])('keep the addresses of %s', (range) => {
    const diff = diffPeers({
      desired: [desired('a')],
      observed: [observed('x', { allowedIps: [range] })],
      ours: ours('a'),
    });
    expect(diff.changes).toEqual([]);
    expect(diff.conflicts).toEqual([
      { kind: 'address_conflict', tag: 't-a', publicKey: 'a', address: address(2), heldBy: 'x' },
    ]);
  });

  test('with a default route do not block everything', () => {
    const peers = [observed('x', { allowedIps: ['0.0.0.0/0', '::/0'] })];
    expect(brief(diffPeers({ desired: [desired('a')], observed: peers, ours: ours('a') }).changes)).toEqual(['set a']);
  });

  test('that come later do not disturb a peer that is right', () => {
    const peers = [observed('x', { allowedIps: ['10.8.0.0/24'] }), observed('a')];
    expect(diffPeers({ desired: [desired('a')], observed: peers, ours: ours('a') })).toMatchObject({
      changes: [],
      conflicts: [],
    });
  });
});

describe('addresses among our own', () => {
  test('the giver moves before the taker', () => {
    const diff = diffPeers({
      desired: [desired('taker', { addresses: [address(3)] }), desired('giver', { addresses: [address(4)] })],
      observed: [observed('taker'), observed('giver', { allowedIps: [address(3)] })],
      ours: ours('taker', 'giver'),
    });
    expect(brief(diff.changes)).toEqual(['set giver', 'set taker']);
  });

  test('two that swap are opened by one removal', () => {
    const diff = diffPeers({
      desired: [desired('a', { addresses: [address(3)] }), desired('b')],
      observed: [observed('a'), observed('b', { allowedIps: [address(3)] })],
      ours: ours('a', 'b'),
    });
    expect(brief(diff.changes)).toEqual(['remove a', 'set b', 'set a']);
  });

  test('the first of two wishes for one address has it', () => {
    const diff = diffPeers({ desired: [desired('a'), desired('b')], observed: [], ours: ours('a', 'b') });
    expect(brief(diff.changes)).toEqual(['set a']);
    expect(diff.conflicts).toMatchObject([{ kind: 'address_conflict', tag: 't-b', heldBy: 'a' }]);
  });

  test('a peer that cannot move keeps its address, and who waits for it waits', () => {
    const diff = diffPeers({
      desired: [desired('stuck', { addresses: [address(9)] }), desired('next')],
      observed: [observed('x', { allowedIps: [address(9)] }), observed('stuck')],
      ours: ours('stuck', 'next'),
    });
    expect(diff.changes).toEqual([]);
    expect(diff.conflicts).toMatchObject([
      { tag: 't-stuck', heldBy: 'x' },
      { tag: 't-next', heldBy: 'stuck' },
    ]);
  });

  test('a disabled peer leaves an address that was promised to another', () => {
    const diff = diffPeers({
      desired: [desired('a', { state: 'suspended', addresses: [address(7)] }), desired('b')],
      observed: [observed('a', { enabled: false })],
      ours: ours('a', 'b'),
    });
    expect(brief(diff.changes)).toEqual(['remove a', 'set b']);
  });
});

describe('a host that makes the keys', () => {
  const wish = desired('?', { publicKey: null, addresses: [] });

  test('is asked for a peer by its name', () => {
    const diff = diffPeers({ desired: [wish], observed: [], ours: ours(), ourTags: new Set([wish.tag]) });
    expect(diff.changes).toEqual([{ type: 'set', tag: wish.tag, publicKey: null, presharedKey: null, addresses: [] }]);
  });

  test('is asked again when the peer is there but its keys were lost on the way', () => {
    const peers = [observed('made', { tag: wish.tag })];
    const diff = diffPeers({ desired: [wish], observed: peers, ours: ours(), ourTags: new Set([wish.tag]) });
    expect(brief(diff.changes)).toEqual(['set null']);
    expect(diff.foreign).toEqual([]);
  });

  test('removes a peer that was never reported, by the key it has', () => {
    const peers = [observed('made', { tag: wish.tag })];
    const gone: DesiredPeer = { ...wish, state: 'absent' };
    const diff = diffPeers({ desired: [gone], observed: peers, ours: ours(), ourTags: new Set([wish.tag]) });
    expect(brief(diff.changes)).toEqual(['remove made']);
  });

  test('keeps the address it chose', () => {
    const peers = [observed('made', { tag: 't', allowedIps: [address(77)], presharedKey: undefined })];
    const known = desired('made', { addresses: [], presharedKey: psk('p') });
    expect(diffPeers({ desired: [known], observed: peers, ours: ours('made') }).changes).toEqual([]);
  });

  test('keeps peers with similar names that are not ours', () => {
    const peers = [observed('x', { tag: `${wish.tag}1`, allowedIps: [address(9)] })];
    const diff = diffPeers({ desired: [], observed: peers, ours: ours(), ourTags: new Set([wish.tag]) });
    expect(diff.changes).toEqual([]);
    expect(diff.foreign).toHaveLength(1);
  });
});

/** WireGuard's own rules; a steal is an address moved away from a peer that still has it. */
class ModelHost {
  readonly peers: Map<PublicKey, ObservedPeer>;
  readonly steals: string[] = [];
  readonly #suspend: 'disable' | 'remove';

  constructor(peers: readonly ObservedPeer[], suspend: 'disable' | 'remove') {
    this.peers = new Map(peers.map((peer) => [peer.publicKey, peer]));
    this.#suspend = suspend;
  }

  apply(changes: readonly PeerChange[]): void {
    for (const change of changes) {
      const peer = change.publicKey === null ? undefined : this.peers.get(change.publicKey);
      if (change.type === 'set') this.#set(change);
      else if (change.type === 'suspend' && this.#suspend === 'disable' && peer)
        this.peers.set(change.publicKey, { ...peer, enabled: false });
      else this.peers.delete(change.publicKey);
    }
  }

  #set({ publicKey, presharedKey, addresses }: Extract<PeerChange, { type: 'set' }>): void {
    if (publicKey === null) throw new Error('the model host makes no keys');
    for (const [other, peer] of this.peers) {
      const lost = peer.allowedIps.filter((held) => other !== publicKey && addresses.includes(held));
      if (lost.length === 0) continue;
      this.steals.push(`${publicKey} took ${lost} from ${other}`);
      this.peers.set(other, { ...peer, allowedIps: peer.allowedIps.filter((held) => !lost.includes(held)) });
    }
    this.peers.set(publicKey, observed(publicKey, { presharedKey, allowedIps: addresses }));
  }
}

describe('any host and any wishes', () => {
  // Few names and few addresses, so that they collide.
  const name = fc.constantFrom(...'abcdefghij');
  const someAddress = fc.oneof(
    fc.integer({ min: 2, max: 9 }).map(address),
    fc.integer({ min: 2, max: 9 }).map((n) => `fd00::${n}/128`),
  );
  const presharedKey = fc.constantFrom(null, psk('p'), psk('q'));
  const wish = fc.record({
    name,
    state: fc.constantFrom('present', 'present', 'present', 'suspended', 'absent'),
    presharedKey,
    addresses: fc.uniqueArray(someAddress, { minLength: 1, maxLength: 2 }),
  });
  const wishes = fc
    .uniqueArray(wish, { selector: (one) => one.name, maxLength: 10 })
    .map((all) => all.map(({ name: who, ...fields }) => desired(who, fields as Partial<DesiredPeer>)));
  const found = fc.record({
    name,
    presharedKey: fc.oneof(presharedKey, fc.constant(undefined)),
    allowedIps: fc.uniqueArray(
      fc.oneof(
        { weight: 8, arbitrary: someAddress },
        { weight: 1, arbitrary: fc.constantFrom('10.8.0.0/29', '0.0.0.0/0', 'fd00::/64') },
      ),
      { maxLength: 3 },
    ),
    enabled: fc.boolean(),
  });
  // An address belongs to one peer at a time.
  const host = fc.uniqueArray(found, { selector: (one) => one.name, maxLength: 8 }).map((all) => {
    const taken = new Set<string>();
    return all.map(({ name: who, ...fields }) => {
      const allowedIps = fields.allowedIps.filter((held) => !taken.has(held));
      for (const held of allowedIps) taken.add(held);
      return observed(who, { ...fields, allowedIps });
    });
  });
  const situation = fc.record({
    desired: wishes,
    observed: host,
    ours: fc.uniqueArray(name).map((names) => ours(...names)),
    suspend: fc.constantFrom('disable', 'remove'),
  });

  test('one pass converges, a second has nothing to do, foreign peers stay, and no address is ever taken away', () => {
    fc.assert(
      fc.property(situation, ({ suspend, ...input }) => {
        const model = new ModelHost(input.observed, suspend as 'disable' | 'remove');
        const before = input.observed.filter(({ publicKey }) => !input.ours.has(publicKey));
        const first = diffPeers(input);
        model.apply(first.changes);
        expect(model.steals).toEqual([]);
        for (const peer of before) expect(model.peers.get(peer.publicKey)).toEqual(peer);
        expect(first.foreign).toEqual(before);

        // What we put there is ours: the reconciler writes the key down before it tries.
        const put = first.changes.flatMap(({ type, publicKey }) =>
          type === 'set' && publicKey !== null ? [publicKey] : [],
        );
        const nowOurs = new Set([...input.ours, ...put]);
        const second = diffPeers({ ...input, ours: nowOurs, observed: [...model.peers.values()] });
        expect(second.changes).toEqual([]);
        expect(second.conflicts).toHaveLength(first.conflicts.length);
        for (const peer of input.desired)
          expectTrue(
            peer,
            model,
            second.conflicts.map(({ tag }) => tag),
            nowOurs,
          );
      }),
      { numRuns: 5000 },
    );
  });

  function expectTrue(
    peer: DesiredPeer,
    model: ModelHost,
    conflicting: readonly string[],
    mine: ReadonlySet<PublicKey>,
  ) {
    const there = model.peers.get(peer.publicKey as PublicKey);
    if (conflicting.includes(peer.tag) || !mine.has(peer.publicKey as PublicKey)) return;
    if (peer.state === 'absent') expect(there).toBeUndefined();
    if (peer.state === 'suspended') expect(there?.enabled ?? false).toBe(false);
    if (peer.state !== 'present') return;
    expect(there?.enabled).toBe(true);
    expect(new Set(there?.allowedIps)).toEqual(new Set(peer.addresses));
  }
});

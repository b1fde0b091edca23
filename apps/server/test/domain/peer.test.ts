import { type DiffInput, diffPeers } from '@vpn-api/wg/diff';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addSeconds, type Instant } from '../../src/domain/instant.ts';
import {
  type AccessFacts,
  type AppliedFacts,
  countDevices,
  type DesiredSnapshot,
  desiredPeers,
  deviceRanks,
  isScheduledSuspension,
  mustBrake,
  type PeerWish,
  peerAccess,
  peerState,
  type SnapshotPeer,
} from '../../src/domain/peer.ts';
import { foldPeriods, subscriptionAt } from '../../src/domain/subscription.ts';
import { day, period, START } from './periods.ts';

type Observed = DiffInput['observed'][number];

const active = subscriptionAt(foldPeriods([period({ device_limit: 2 })]), START);

function access(overrides: Partial<AccessFacts> = {}) {
  return peerAccess({
    user: { status: 'active', removed_at: null },
    subscription: active,
    deactivated_at: null,
    rank: 0,
    ...overrides,
  });
}

function peer(overrides: Partial<SnapshotPeer> = {}): SnapshotPeer {
  const id = overrides.id ?? 1;
  return {
    id,
    user_id: 7,
    server_id: 1,
    public_key: `key-${id}`,
    wg_ip: `10.8.0.${id + 1}/32`,
    wg_ip6: null,
    deactivated_at: null,
    removed_at: null,
    created_at: START,
    ...overrides,
  };
}

function snapshot(overrides: Partial<DesiredSnapshot> = {}): DesiredSnapshot {
  return {
    server: { id: 1, public_key: 'server-key', keys: 'given' },
    installId: 'vpn4f2a',
    users: [{ id: 7, status: 'active', removed_at: null }],
    periods: [period({ device_limit: 5 })],
    peers: [],
    hostPeers: [],
    ...overrides,
  };
}

const hostPeer = (id: number, peerId: number, key: string, retired: string | null = null) => ({
  id,
  server_id: 1,
  peer_id: peerId,
  public_key: key,
  retired_at: retired,
});

const byPeer = (wishes: readonly PeerWish[]) =>
  wishes.map(({ peerId, state, publicKey }) => [peerId, state, publicKey]);

describe('access', () => {
  it('is given by an active subscription and by its grace', () => {
    expect(access()).toEqual({ allowed: true, reason: 'active' });
    expect(access({ subscription: { ...active, status: 'grace' } })).toEqual({ allowed: true, reason: 'grace' });
  });

  it('is refused for the first reason that holds, in the promised order', () => {
    const reasons: [Partial<AccessFacts>, string][] = [
      [{ user: { status: 'blocked', removed_at: null } }, 'blocked'],
      [{ deactivated_at: START }, 'deactivated'],
      [{ subscription: { ...active, status: 'expired' } }, 'expired'],
      [{ rank: 2 }, 'device_limit_exceeded'],
      [{ quotaExceeded: true }, 'quota_exceeded'],
    ];
    for (const [i, [, reason]] of reasons.entries()) {
      const facts = Object.assign({}, ...reasons.slice(i).map(([change]) => change));
      expect(access(facts)).toEqual({ allowed: false, reason });
    }
  });

  it('is refused without a subscription, after a revoke, in a dispute and for a removed user', () => {
    expect(access({ subscription: { status: 'none', current: undefined } }).reason).toBe('no_subscription');
    expect(access({ subscription: { ...active, status: 'revoked' } }).reason).toBe('no_subscription');
    expect(access({ disputed: true }).reason).toBe('blocked');
    expect(access({ user: { status: 'active', removed_at: START } }).reason).toBe('blocked');
  });
});

describe('the device limit', () => {
  it('keeps the oldest; deactivated devices count, those being removed do not', () => {
    const devices = [
      peer({ id: 4, created_at: day(1) }),
      peer({ id: 3, created_at: day(2) }),
      peer({ id: 2, created_at: day(2), deactivated_at: START }),
      peer({ id: 1, removed_at: day(3) }),
      peer({ id: 9, user_id: 8 }),
    ];
    expect(Object.fromEntries(deviceRanks(devices))).toEqual({ 4: 0, 2: 1, 3: 2, 9: 0 });
    expect(countDevices(devices.filter((row) => row.user_id === 7))).toBe(3);
  });

  it('counts devices on every server', () => {
    const peers = [peer({ id: 1, server_id: 2 }), peer({ id: 2, created_at: day(1) })];
    const { wishes } = desiredPeers(snapshot({ peers, periods: [period({ device_limit: 1 })] }), day(1));
    expect(wishes).toMatchObject([{ peerId: 2, state: 'suspended', reason: 'device_limit_exceeded' }]);
  });

  it('leaves exactly the limit, or all devices if they are fewer', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 5 }), { maxLength: 12 }), fc.integer({ min: 1, max: 8 }), (ages, limit) => {
        const peers = ages.map((age, i) => peer({ id: i + 1, created_at: day(age) }));
        const { wishes } = desiredPeers(snapshot({ peers, periods: [period({ device_limit: limit })] }), day(6));
        const on = wishes
          .filter((wish) => wish.state === 'present')
          .map((wish) => peers[wish.peerId - 1]?.created_at ?? '');
        const off = wishes
          .filter((wish) => wish.state === 'suspended')
          .map((wish) => peers[wish.peerId - 1]?.created_at ?? '');
        expect(on).toHaveLength(Math.min(limit, peers.length));
        expect(on.every((created) => off.every((other) => created <= other))).toBe(true);
      }),
    );
  });
});

describe('the state of a peer', () => {
  const applied = (overrides: Partial<AppliedFacts> = {}): AppliedFacts => ({
    removed_at: null,
    wanted_version: 2,
    applied_version: 2,
    applied_state: 'present',
    last_error: null,
    ...overrides,
  });

  it.each([
    [applied(), true, 'active'],
    [applied({ applied_version: 1 }), true, 'pending'],
    [applied({ applied_version: 1, last_error: 'key_conflict' }), true, 'failed'],
    [applied({ applied_state: 'none' }), true, 'pending'],
    [applied({ applied_state: 'suspended' }), true, 'pending'],
    [applied(), false, 'pending'],
    [applied({ applied_state: 'suspended', applied_version: 1 }), false, 'suspended'],
    [applied({ applied_state: 'absent' }), false, 'suspended'],
    [applied({ applied_state: 'none', applied_version: 0, last_error: 'old' }), false, 'suspended'],
    [applied({ removed_at: START, last_error: 'x' }), true, 'removing'],
  ] as const)('of %j with access %s is %s', (facts, allowed, state) => {
    expect(peerState(facts, { allowed })).toBe(state);
  });
});

describe('what should be on a server', () => {
  it('is exactly the own addresses of its peers, on or off', () => {
    const peers = [
      peer({ wg_ip6: 'fd00::2/128' }),
      peer({ id: 2, deactivated_at: START }),
      peer({ id: 3, server_id: 2 }),
    ];
    expect(desiredPeers(snapshot({ peers }), START).wishes).toEqual([
      {
        tag: 'vpn4f2a-1-0',
        state: 'present',
        publicKey: 'key-1',
        addresses: ['10.8.0.2/32', 'fd00::2/128'],
        peerId: 1,
        reason: 'active',
      },
      {
        tag: 'vpn4f2a-2-0',
        state: 'suspended',
        publicKey: 'key-2',
        addresses: ['10.8.0.3/32'],
        peerId: 2,
        reason: 'deactivated',
      },
    ]);
  });

  it('is without every key of ours that no live peer has: rotated, moved, removed, of removed users', () => {
    const peers = [
      peer({ id: 1, public_key: 'new-key' }),
      peer({ id: 2, server_id: 2 }),
      peer({ id: 3, removed_at: START }),
      peer({ id: 4, user_id: 8 }),
    ];
    const users = [...snapshot().users, { id: 8, status: 'active', removed_at: START } as const];
    const hostPeers = [
      hostPeer(1, 1, 'old-key', START),
      hostPeer(2, 1, 'new-key'),
      hostPeer(3, 2, 'key-2'),
      hostPeer(4, 3, 'key-3', START),
      hostPeer(5, 4, 'key-4'),
      { ...hostPeer(6, 2, 'elsewhere'), server_id: 2 },
    ];
    const { wishes, ours } = desiredPeers(snapshot({ users, peers, hostPeers }), START);
    expect(byPeer(wishes)).toEqual([
      [1, 'present', 'new-key'],
      [1, 'absent', 'old-key'],
      [2, 'absent', 'key-2'],
      [3, 'absent', 'key-3'],
      [4, 'absent', 'key-4'],
    ]);
    expect([...ours]).toEqual(['old-key', 'new-key', 'key-2', 'key-3', 'key-4']);
  });

  it('never names a route, the key of the server, or a peer that has no address yet', () => {
    const peers = [
      peer({ id: 1, wg_ip: '0.0.0.0/0' }),
      peer({ id: 2, wg_ip: '10.8.0.0/24' }),
      peer({ id: 3, wg_ip: null }),
      peer({ id: 4, public_key: null }),
      peer({ id: 5, public_key: 'server-key' }),
    ];
    const { wishes, unready } = desiredPeers(snapshot({ peers }), START);
    expect([wishes, unready]).toEqual([[], [1, 2, 3, 4, 5]]);
  });

  it('asks a host that makes the keys by a name that changes with each rotation and not before', () => {
    const server = { id: 1, public_key: null, keys: 'reported' } as const;
    const fresh = peer({ public_key: null, wg_ip: null });
    const tagOf = (hostPeers: DesiredSnapshot['hostPeers'], row: SnapshotPeer) =>
      desiredPeers(snapshot({ server, peers: [row], hostPeers }), START).wishes[0]?.tag;
    const known = [hostPeer(1, 1, 'key-1')];
    expect(tagOf([], fresh)).toBe('vpn4f2a-1-0');
    expect(tagOf(known, { ...fresh, public_key: 'key-1' })).toBe('vpn4f2a-1-0');
    expect(tagOf(known, fresh)).toBe('vpn4f2a-1-1');
    expect(tagOf([...known, hostPeer(2, 1, 'key-b')], { ...fresh, public_key: 'key-b' })).toBe('vpn4f2a-1-1');
  });

  it('is without a peer that was removed before the host told its key', () => {
    const server = { id: 1, public_key: null, keys: 'reported' } as const;
    const peers = [peer({ public_key: null, wg_ip: null, removed_at: START })];
    const { wishes, ourTags } = desiredPeers(snapshot({ server, peers }), START);
    expect(wishes).toMatchObject([{ tag: 'vpn4f2a-1-0', state: 'absent', publicKey: null }]);
    expect([...ourTags]).toEqual(['vpn4f2a-1-0']);
  });

  it('switches off a peer whose payment is disputed or whose traffic is used up, and nobody else', () => {
    const peers = [peer(), peer({ id: 2, user_id: 8 }), peer({ id: 3, user_id: 9 })];
    const users = [7, 8, 9].map((id) => ({ id, status: 'active', removed_at: null }) as const);
    const quota = (used_bytes: number) => ({ traffic_limit_bytes: 100, used_bytes });
    const periods = [
      { ...period(), disputed_at: START },
      period({ user_id: 8, ...quota(100) }),
      period({ user_id: 9, ...quota(99) }),
    ];
    const { wishes } = desiredPeers(snapshot({ users, peers, periods }), START);
    expect(wishes.map((wish) => wish.reason)).toEqual(['blocked', 'quota_exceeded', 'active']);
  });

  it('changes next when the first of its users has something to lose or to gain', () => {
    const peers = [peer(), peer({ id: 2, user_id: 8 }), peer({ id: 3, user_id: 9, server_id: 2 })];
    const users = [7, 8, 9].map((id) => ({ id, status: 'active', removed_at: null }) as const);
    const periods = [
      period(),
      period({ user_id: 8, granted_at: day(-10), grace_days: 2 }),
      period({ user_id: 9, granted_at: day(-29) }),
    ];
    const given = snapshot({ users, peers, periods });
    expect(desiredPeers(given, START).nextChangeAt).toBe(day(20));
    expect(desiredPeers(given, day(20)).nextChangeAt).toBe(day(22));
    expect(desiredPeers(given, day(30)).nextChangeAt).toBeNull();
  });

  it('does not change before it says so', () => {
    fc.assert(
      fc.property(worlds, ({ users, periods, peers, hostPeers }) => {
        const given = snapshot({ users, periods, peers, hostPeers });
        for (let now: Instant | null = START, turns = 0; now !== null && turns < 20; turns += 1) {
          const { wishes, nextChangeAt }: ReturnType<typeof desiredPeers> = desiredPeers(given, now);
          const until = nextChangeAt === null ? addSeconds(now, 1e9) : addSeconds(nextChangeAt, -0.001);
          expect(byPeer(desiredPeers(given, until).wishes)).toEqual(byPeer(wishes));
          now = nextChangeAt;
        }
      }),
    );
  });
});

const worlds = fc.record({
  users: fc.constant([7, 8]).chain((ids) =>
    fc.tuple(
      ...ids.map((id) =>
        fc.record({
          id: fc.constant(id),
          status: fc.constantFrom('active', 'blocked'),
          removed_at: fc.constantFrom(null, null, START),
        }),
      ),
    ),
  ),
  periods: fc
    .array(
      fc.tuple(
        fc.constantFrom(7, 8),
        fc.integer({ min: -40, max: 0 }),
        fc.integer({ min: 1, max: 3 }),
        fc.nat({ max: 3 }),
      ),
      { maxLength: 5 },
    )
    .map((rows) =>
      rows.map(([user_id, granted, device_limit, grace_days], i) =>
        period({ seq: i + 1, user_id, granted_at: day(granted), device_limit, grace_days }),
      ),
    ),
  peers: fc
    .array(
      fc.record({
        user_id: fc.constantFrom(7, 8),
        server_id: fc.constantFrom(1, 1, 1, 2),
        deactivated_at: fc.constantFrom(null, null, START),
        removed_at: fc.constantFrom(null, null, null, START),
      }),
      { maxLength: 8 },
    )
    .map((rows) => rows.map((row, i) => peer({ ...row, id: i + 1 }))),
  hostPeers: fc
    .uniqueArray(fc.integer({ min: 1, max: 10 }))
    .map((ids) => ids.map((id) => hostPeer(id, id, `key-${id}`))),
});

describe('wish and diff together', () => {
  /** A host that can disable, in twenty lines. */
  function applyTo(host: Map<string, Observed>, input: DiffInput): ReturnType<typeof diffPeers> {
    const diff = diffPeers(input);
    for (const change of diff.changes) {
      const key = String(change.publicKey);
      const there = host.get(key);
      if (change.type === 'remove') host.delete(key);
      else if (change.type === 'suspend' && there !== undefined) host.set(key, { ...there, enabled: false });
      else if (change.type === 'set') host.set(key, observed(key, change.addresses));
    }
    return diff;
  }

  function observed(key: string, allowedIps: readonly string[], enabled = true): Observed {
    const traffic = { endpoint: null, lastHandshakeAt: null, rxBytes: 0, txBytes: 0 };
    return { publicKey: key as Observed['publicKey'], presharedKey: null, allowedIps, enabled, ...traffic };
  }

  const hosts = fc.array(
    fc.tuple(
      fc.constantFrom('key-1', 'key-2', 'key-3', 'key-9', 'stranger'),
      fc.integer({ min: 2, max: 12 }),
      fc.boolean(),
    ),
    { maxLength: 6 },
  );

  it('bring a host in any state to what was paid for in one pass, and then leave it alone', () => {
    fc.assert(
      fc.property(worlds, hosts, ({ users, periods, peers, hostPeers }, found) => {
        const given = snapshot({ users, periods, peers, hostPeers });
        const host = new Map(
          found.map(([key, n, enabled]) => [key as string, observed(key, [`10.8.0.${n}/32`], enabled)]),
        );
        const ours = new Set(hostPeers.map((row) => row.public_key));
        const strangers = structuredClone([...host].filter(([key]) => !ours.has(key)));
        const state = desiredPeers(given, START);
        const desired = state.wishes.map((wish) => ({ ...wish, presharedKey: null }));
        const { conflicts } = applyTo(host, { desired, observed: [...host.values()], ours: state.ours });
        const refused = new Set(conflicts.map((conflict) => String(conflict.publicKey)));

        for (const wish of state.wishes.filter((candidate) => !refused.has(String(candidate.publicKey)))) {
          const there = host.get(String(wish.publicKey));
          if (wish.state === 'present') expect(there).toMatchObject({ enabled: true, allowedIps: wish.addresses });
          else if (ours.has(String(wish.publicKey))) expect(there?.enabled ?? false).toBe(false);
        }
        expect([...host].filter(([key]) => strangers.some(([stranger]) => stranger === key))).toEqual(strangers);
        const known = new Set(
          [...ours, ...state.wishes.map((wish) => String(wish.publicKey))].filter(
            (key) => !strangers.some(([stranger]) => stranger === key),
          ),
        );
        const again = diffPeers({
          desired,
          observed: [...host.values()],
          ours: known as DiffInput['ours'] & Set<string>,
        });
        expect(again.changes).toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the brake', () => {
  it.each([
    [10, 10, false],
    [11, 11, true],
    [11, 55, false],
    [12, 55, true],
    [20, 100, false],
    [21, 100, true],
    [0, 0, false],
  ])('for %i of %i peers is %s', (unscheduled, present, stops) => {
    expect(mustBrake({ unscheduled, present })).toBe(stops);
  });

  it('does not count what expires on schedule or used up its traffic', () => {
    expect(isScheduledSuspension('expired')).toBe(true);
    expect(isScheduledSuspension('quota_exceeded')).toBe(true);
    for (const reason of ['blocked', 'no_subscription', 'device_limit_exceeded', null] as const) {
      expect(isScheduledSuspension(reason)).toBe(false);
    }
  });
});

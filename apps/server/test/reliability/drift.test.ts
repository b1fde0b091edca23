import { randomUUID } from 'node:crypto';
import { insertPeer, insertPeriod, insertUser, listPeers, type PeerRow, type ServerRow, type Tx } from '@vpn-api/db';
import { type FakeHost, generateKeyPair, type ObservedPeer, type PublicKey } from '@vpn-api/wg';
import { describe, test } from 'vitest';
import { addSeconds, DAY_SECONDS, type Instant } from '../../src/domain/instant.ts';
import { runDoctor } from '../../src/ops/doctor.ts';
import { addressColumns } from '../../src/ops/peer-rows.ts';
import { engines } from '../harness.ts';
import { World } from '../reconcile/world.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

const POOL = '10.8.0.0/16';
const INTERVAL_SECONDS = 60;
const FOREIGN = 20;

/** Somebody works on a host by hand: every twentieth peer is deleted, disabled, moved, or given a second address. */
describe.each(engines)('a host that is changed by hand, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test('is as it was after one compare, and nobody else gets a write', async () => {
    const start = performance.now();
    await using world = await World.start({ engine, env: { WG_POOL_V4: POOL }, host: { suspend: 'disable' } });
    const foreign = Array.from({ length: FOREIGN }, (_, n) => world.host.addForeignPeer([`172.16.0.${n + 2}/32`]));
    const server = await world.server();
    await world.store.transaction((tx) => insertPaidPeers(tx, server, scale.driftPeers));
    await world.wake();
    const peers = await listPeers(world.store, {}, { limit: 100_000 });
    const before = stateOf(world.host);
    const touched = driftBy(world, peers);
    const calls = world.host.calls.length;
    const compared = performance.now();
    await world.pass(INTERVAL_SECONDS);
    const compareMs = Math.round(performance.now() - compared);
    const writes = writesSince(world.host, calls);
    await world.pass(INTERVAL_SECONDS);
    const later = writesSince(world.host, calls).length - writes.length;
    const findings = await runDoctor(world.store, { now: world.app.clock.now() });
    const violations = [
      ...(sameSet(writes, touched) ? [] : [`${writes.length} writes for ${touched.length} drifts`]),
      ...(later === 0 ? [] : [`${later} more writes in the next compare`]),
      ...differences(before, stateOf(world.host)),
      ...foreign.filter((key) => !before.has(key)).map(() => 'a foreign peer is gone'),
      ...(await driftCounted(world, touched.length)),
      ...findings.map(({ invariant, message }) => `${invariant}: ${message}`),
    ];
    report({
      id: 'R9',
      title: 'A host changed by hand',
      engine,
      seed,
      counts: {
        peers: peers.length,
        drifts: touched.length,
        writes: writes.length,
        'compare and repair, ms': compareMs,
      },
      violations,
      seconds: secondsSince(start),
    });
  });
});

async function insertPaidPeers(tx: Tx, server: ServerRow, count: number): Promise<void> {
  const now = server.created_at;
  const ends_at = addSeconds(now as Instant, 30 * DAY_SECONDS);
  for (let n = 0; n < count; n += 1) {
    const { id: user_id } = await insertUser(tx, { email: `${randomUUID()}@example.com`, created_at: now });
    await insertPeriod(tx, {
      ...{ user_id, seq: n + 1, tariff_name: 'Month', price_minor: 999, currency: 'USD', duration_days: 30 },
      ...{ device_limit: 1, grace_days: 0, source: 'import', granted_at: now, length_seconds: 30 * DAY_SECONDS },
      ...{ starts_at: now, ends_at, created_at: now },
    });
    const { publicKey } = generateKeyPair();
    await insertPeer(tx, {
      ...{ user_id, server_id: server.id, key_origin: 'client', public_key: publicKey, created_at: now },
      ...{ ...addressColumns(server, n + 2), allowed_ips: '0.0.0.0/0', pending_since: now },
    });
  }
}

/** Answers the keys that a compare has to write. */
function driftBy({ host }: World, peers: readonly PeerRow[]): PublicKey[] {
  const every = Math.floor(peers.length / scale.drifts);
  const chosen = peers.filter((_, n) => n % every === 0).slice(0, scale.drifts);
  return chosen.map(({ public_key }, n) => {
    const key = public_key as PublicKey;
    const peer = host.peers().find(({ publicKey }) => publicKey === key) as ObservedPeer;
    if (n % 4 === 0) host.delete(key);
    else if (n % 4 === 1) host.put({ ...peer, enabled: false });
    else if (n % 4 === 2) host.put({ ...peer, allowedIps: [`10.99.${n >> 8}.${n & 255}/32`] });
    else host.put({ ...peer, allowedIps: [...peer.allowedIps, `10.98.${n >> 8}.${n & 255}/32`] });
    return key;
  });
}

/** Addresses of the peers that are on, by key. */
function stateOf(host: FakeHost): ReadonlyMap<string, string> {
  return new Map(
    host.peers().map(({ publicKey, allowedIps, enabled }) => [publicKey, `${enabled} ${allowedIps.join()}`]),
  );
}

function writesSince(host: FakeHost, calls: number): (string | null)[] {
  const applied = host.calls.slice(calls).filter(({ method }) => method === 'apply');
  return applied.flatMap(({ changes }) => changes).map(({ publicKey }) => publicKey);
}

function sameSet(writes: readonly (string | null)[], touched: readonly string[]): boolean {
  return writes.length === touched.length && new Set([...writes, ...touched]).size === touched.length;
}

function differences(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  const wrong = [...before].filter(([key, state]) => after.get(key) !== state).length;
  return wrong === 0 && before.size === after.size ? [] : [`${wrong} peers of ${before.size} are not as they were`];
}

async function driftCounted({ services }: World, wanted: number): Promise<string[]> {
  const { body } = await services.metrics.render();
  const counted = /^vpn_api_reconcile_drift_total\{server="default",kind="set"\} (\d+)$/m.exec(body)?.[1];
  return Number(counted) === wanted ? [] : [`${counted} drifts counted of ${wanted}`];
}

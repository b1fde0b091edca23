import {
  addPeerUsage,
  addPeriodTraffic,
  type HostPeerRow,
  holdsLease,
  type Lease,
  lockCountedPeers,
  type PeerRow,
  type PeerSighting,
  recordCounters,
  recordSightings,
  type Tx,
} from '@vpn-api/db';
import type { ObservedPeer } from '@vpn-api/wg';
import { endpointHasher } from '../crypto/endpoint-hash.ts';
import type { Instant } from '../domain/instant.ts';
import { foldPeriods, subscriptionAt } from '../domain/subscription.ts';
import {
  addTraffic,
  crossesQuota,
  NO_TRAFFIC,
  type Traffic,
  totalBytes,
  trafficSince,
  utcDay,
} from '../domain/traffic.ts';
import type { Services } from '../services.ts';
import type { ServerPlan } from './plan-server.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'reconciler'>;
type Plan = Pick<ServerPlan, 'wishes' | 'observed'>;

/** Some hundred peers a transaction: on an embedded database every other writer waits for its end. */
const BATCH = 500;

/**
 * Counts what went through the peers of a host since it was last read, for its peers, their days and the periods of their
 * owners. What was counted is written together with the reading it was counted from, in batches that each stand alone: a
 * crash between two of them loses nothing and counts nothing twice. Nothing is counted once the lease is lost.
 *
 * Wakes the hosts of those who used up their traffic with it.
 */
export async function recordTraffic(deps: Deps, lease: Lease, plan: Plan): Promise<void> {
  const at = deps.clock.now();
  const readings = readingsOf(plan);
  const periods = currentPeriods(plan, { readings, at });
  const hash = endpointHasher(deps.config.secrets.secretKey);
  const exceeded = new Set<number>();
  for (let from = 0; from < readings.length; from += BATCH) {
    const batch = { readings: readings.slice(from, from + BATCH), periods, hash, at };
    const users = await deps.store.transaction(async (tx) => {
      return (await holdsLease(tx, lease)) ? recordBatch(tx, batch) : [];
    });
    for (const userId of users) exceeded.add(userId);
  }
  if (exceeded.size > 0) deps.reconciler.wake(serversOf(plan, exceeded));
}

/** One key of ours on the host, with a reading that says something new. */
interface Reading {
  readonly row: HostPeerRow;
  /** Undefined when only the counter is set back. */
  readonly peer: PeerRow | undefined;
  /** Undefined while the host is without the key. */
  readonly observed: ObservedPeer | undefined;
  readonly seen: Traffic;
  readonly traffic: Traffic;
}

/**
 * In order of the keys' rows, so that passes over several hosts lock in one order. The key a peer had before it was
 * rotated counts as long as the host has it.
 */
function readingsOf({ wishes: { snapshot }, observed }: Plan): Reading[] {
  const onHost = new Map<string, ObservedPeer>(observed.map((peer) => [peer.publicKey, peer]));
  const peers = new Map(snapshot.peers.map((peer) => [peer.id, peer]));
  return snapshot.hostPeers.flatMap((row) => {
    const reading = readingOf(row, onHost.get(row.public_key), peers.get(row.peer_id));
    return reading === undefined ? [] : [reading];
  });
}

/**
 * A host without the key has no counter of it: the next one starts at 0. Seen before it is put there again, as it is
 * whenever we put it there ourselves, such a restart is known for certain.
 */
function readingOf(
  row: HostPeerRow,
  observed: ObservedPeer | undefined,
  peer: PeerRow | undefined,
): Reading | undefined {
  if (observed === undefined) {
    const isSetBack = totalBytes(row) > 0;
    return isSetBack ? { row, peer: undefined, observed, seen: NO_TRAFFIC, traffic: NO_TRAFFIC } : undefined;
  }
  if (peer === undefined) return undefined;
  const seen = { rx_bytes: observed.rxBytes, tx_bytes: observed.txBytes };
  const isSame = seen.rx_bytes === row.rx_bytes && seen.tx_bytes === row.tx_bytes;
  if (isSame && !hasNewHandshake(observed, peer)) return undefined;
  return { row, peer, observed, seen, traffic: trafficSince(row, seen) };
}

function hasNewHandshake({ lastHandshakeAt }: ObservedPeer, { last_handshake_at }: PeerRow): boolean {
  return lastHandshakeAt !== null && lastHandshakeAt !== last_handshake_at;
}

interface Batch {
  readonly readings: readonly Reading[];
  /** By user. */
  readonly periods: ReadonlyMap<number, number>;
  readonly hash: ReturnType<typeof endpointHasher>;
  readonly at: Instant;
}

/** Answers the users whose traffic is used up with this. */
async function recordBatch(tx: Tx, { readings, periods, hash, at }: Batch): Promise<number[]> {
  await lockCountedPeers(
    tx,
    readings.flatMap(({ peer }) => peer?.id ?? []),
  );
  const kept = await recordCounters(
    tx,
    readings.map(({ row, seen }) => ({ ...seen, id: row.id, last: row })),
  );
  const news = [...Map.groupBy(readings, ({ peer }) => peer)].flatMap(([peer, all]) => {
    const counted = all.filter(({ row }) => kept.has(row.id));
    return peer === undefined || counted.length === 0
      ? []
      : [{ peer, sighting: sightingOf(peer, counted, { hash, at }) }];
  });
  await recordSightings(
    tx,
    news.map(({ sighting }) => sighting),
  );
  const moved = news.filter(({ sighting }) => totalBytes(sighting) > 0);
  const usage = moved.map(({ peer, sighting }) => ({ ...sighting, peer_id: peer.id }));
  await addPeerUsage(tx, utcDay(at), usage);
  return addToPeriods(tx, moved, periods);
}

/** What a pass saw of a peer, under all of its keys. */
function sightingOf(
  peer: PeerRow,
  readings: readonly Reading[],
  { hash, at }: Pick<Batch, 'hash' | 'at'>,
): PeerSighting {
  const [latest] = readings
    .flatMap(({ observed }) => (observed === undefined ? [] : [observed]))
    .toSorted((a, b) => compareText(b.lastHandshakeAt ?? '', a.lastHandshakeAt ?? ''));
  const endpoint = latest?.endpoint ?? null;
  const endpoint_hash = endpoint === null ? null : hash(peer.id, endpoint);
  const isNew = endpoint_hash !== null && endpoint_hash !== peer.endpoint_hash;
  return {
    id: peer.id,
    ...readings.map(({ traffic }) => traffic).reduce(addTraffic, NO_TRAFFIC),
    last_handshake_at: latest?.lastHandshakeAt ?? null,
    endpoint_hash: isNew ? endpoint_hash : null,
    endpoint_since: isNew ? at : null,
  };
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

interface News {
  readonly peer: PeerRow;
  readonly sighting: PeerSighting;
}

async function addToPeriods(tx: Tx, news: readonly News[], periods: Batch['periods']): Promise<number[]> {
  const bytes = new Map<number, number>();
  for (const { peer, sighting } of news) {
    const id = periods.get(peer.user_id);
    if (id !== undefined) bytes.set(id, (bytes.get(id) ?? 0) + totalBytes(sighting));
  }
  // In order of id: two hosts of one user are compared at the same time.
  const added = [...bytes].map(([id, more]) => ({ id, bytes: more })).toSorted((a, b) => a.id - b.id);
  const now = await addPeriodTraffic(tx, added);
  return now.filter((period) => crossesQuota(period, bytes.get(period.id) ?? 0)).map(({ user_id }) => user_id);
}

/**
 * The period that traffic counts for, by user: the one in force, or the last that was. There is none before the first one
 * begins. Should another tariff be started between the look at the host and this record, what went through since the last
 * pass counts for the period that was in force when we looked, and not for the rest of it that was split off.
 */
function currentPeriods(
  { wishes: { snapshot } }: Plan,
  { readings, at }: { readonly readings: readonly Reading[]; readonly at: Instant },
): ReadonlyMap<number, number> {
  const busy = new Set(readings.map(({ peer }) => peer?.user_id));
  const chains = Map.groupBy(
    snapshot.periods.filter((period) => busy.has(period.user_id)),
    (period) => period.user_id,
  );
  const current = new Map<number, number>();
  for (const [userId, periods] of chains) {
    const { status, current: period } = subscriptionAt(foldPeriods(periods), at);
    if (period !== undefined && status !== 'none' && status !== 'revoked') current.set(userId, period.id);
  }
  return current;
}

/** All of a user's hosts, not only the one that was just compared. */
function serversOf({ wishes: { snapshot } }: Plan, userIds: ReadonlySet<number>): Set<number> {
  return new Set(snapshot.peers.filter((peer) => userIds.has(peer.user_id)).map((peer) => peer.server_id));
}

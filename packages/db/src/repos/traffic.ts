import { sql } from 'kysely';
import type { Queryable, Tx } from '../store.ts';
import { bulkRows, CHUNK_ROWS, chunks } from './page.ts';

/** Bytes in both directions: `rx` came from the peer, `tx` went to it. */
interface Bytes {
  readonly rx_bytes: number;
  readonly tx_bytes: number;
}

/** A new reading of the counter that a host keeps for one key. */
export interface CounterReading extends Bytes {
  /** Of the `host_peers` row. */
  readonly id: number;
  /** The reading that this one was compared with. */
  readonly last: Bytes;
}

/** Peers before their keys, as everywhere: whoever removes one at this moment waits, and is not waited for. */
export async function lockCountedPeers(tx: Tx, peerIds: readonly number[]): Promise<void> {
  for (const some of chunks(peerIds)) {
    const query = tx.kysely.selectFrom('peers').select('id').where('id', 'in', some).orderBy('id');
    await query.modifyEnd(tx.dialect.forUpdate).execute();
  }
}

/**
 * Keeps readings, each only if the one it was compared with is still the last: what two passes saw at once counts once.
 * Answers the ids of those that were kept.
 */
export async function recordCounters(tx: Tx, readings: readonly CounterReading[]): Promise<ReadonlySet<number>> {
  const columns = { id: 'integer', rx: 'big', tx: 'big', last_rx: 'big', last_tx: 'big' } as const;
  const kept = new Set<number>();
  for (const some of chunks(readings)) {
    const values = some.map(({ id, rx_bytes, tx_bytes, last }) => {
      return { id, rx: rx_bytes, tx: tx_bytes, last_rx: last.rx_bytes, last_tx: last.tx_bytes };
    });
    const { rows } = await sql<{ id: number }>`
      with seen (id, rx, tx, last_rx, last_tx) as ${bulkRows(tx.dialect, columns, values)}
      update host_peers set rx_bytes = seen.rx, tx_bytes = seen.tx
      from seen where seen.id = host_peers.id and rx_bytes = seen.last_rx and tx_bytes = seen.last_tx
      returning host_peers.id`.execute(tx.kysely);
    for (const { id } of rows) kept.add(id);
  }
  return kept;
}

/** What a pass saw of one peer; null leaves a column as it is. */
export interface PeerSighting extends Bytes {
  /** Of the peer. The bytes are added to its own. */
  readonly id: number;
  readonly last_handshake_at: string | null;
  readonly endpoint_hash: string | null;
  readonly endpoint_since: string | null;
}

export async function recordSightings(tx: Tx, sightings: readonly PeerSighting[]): Promise<void> {
  const columns = {
    id: 'integer',
    rx_bytes: 'big',
    tx_bytes: 'big',
    last_handshake_at: 'instant',
    endpoint_hash: 'text',
    endpoint_since: 'instant',
  } as const;
  for (const some of chunks(sightings)) {
    await sql`with seen (id, rx, tx, handshake_at, endpoint, since) as ${bulkRows(tx.dialect, columns, some)}
      update peers set rx_bytes = rx_bytes + seen.rx, tx_bytes = tx_bytes + seen.tx,
        last_handshake_at = coalesce(seen.handshake_at, last_handshake_at),
        endpoint_hash = coalesce(seen.endpoint, endpoint_hash), endpoint_since = coalesce(seen.since, endpoint_since)
      from seen where seen.id = peers.id`.execute(tx.kysely);
  }
}

export interface PeerUsage extends Bytes {
  readonly peer_id: number;
}

/** Adds to the traffic of a UTC day, `YYYY-MM-DD`. Each peer once. */
export async function addPeerUsage(tx: Tx, day: string, usage: readonly PeerUsage[]): Promise<void> {
  const columns = { peer_id: 'integer', rx_bytes: 'big', tx_bytes: 'big' } as const;
  for (const some of chunks(usage)) {
    // Without a condition SQLite takes "on conflict" for that of a join.
    await sql`with went (peer_id, rx, tx) as ${bulkRows(tx.dialect, columns, some)}
      insert into peer_usage (peer_id, day, rx_bytes, tx_bytes)
      select peer_id, cast(${day} as text), rx, tx from went where true
      on conflict (peer_id, day) do update set
        rx_bytes = peer_usage.rx_bytes + excluded.rx_bytes, tx_bytes = peer_usage.tx_bytes + excluded.tx_bytes`.execute(
      tx.kysely,
    );
  }
}

/** The traffic of one peer by UTC day, from `since` on, in order of the day. */
export function listPeerUsage(q: Queryable, peerId: number, since = '') {
  return q.kysely
    .selectFrom('peer_usage')
    .selectAll()
    .where('peer_id', '=', peerId)
    .where('day', '>=', since)
    .orderBy('day')
    .execute();
}

/** Deletes what is from before a UTC day, some hundred rows a call. Answers how many. */
export async function purgePeerUsage(q: Queryable, beforeDay: string): Promise<number> {
  const result = await sql`delete from peer_usage where (peer_id, day) in
    (select peer_id, day from peer_usage where day < ${beforeDay} limit ${CHUNK_ROWS})`.execute(q.kysely);
  return Number(result.numAffectedRows ?? 0);
}

export interface PeriodBytes {
  /** Of the period. */
  readonly id: number;
  readonly bytes: number;
}

export interface PeriodTraffic {
  readonly id: number;
  readonly user_id: number;
  readonly used_bytes: number;
  readonly traffic_limit_bytes: number | null;
}

/** Adds to what was used of periods, each once. Answers them as they are now. */
export async function addPeriodTraffic(tx: Tx, traffic: readonly PeriodBytes[]): Promise<PeriodTraffic[]> {
  const columns = { id: 'integer', bytes: 'big' } as const;
  const periods: PeriodTraffic[] = [];
  for (const some of chunks(traffic)) {
    const { rows } = await sql<PeriodTraffic>`with went (id, bytes) as ${bulkRows(tx.dialect, columns, some)}
      update subscription_periods set used_bytes = used_bytes + went.bytes
      from went where went.id = subscription_periods.id
      returning subscription_periods.id, user_id, used_bytes, traffic_limit_bytes`.execute(tx.kysely);
    periods.push(...rows);
  }
  return periods;
}

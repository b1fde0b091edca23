import {
  findEventByDedupeKey,
  type InspectedRow,
  type Invariant,
  inspect,
  inspectionRules,
  listAudit,
  listPaymentFacts,
  listPeers,
  listPeriodsForUsers,
  listServers,
  listUsersWithPeriods,
  lockUser,
  type PeerRow,
  type Queryable,
  type ServerRow,
  type Store,
} from '@vpn-api/db';
import type { ObservedPeer } from '@vpn-api/wg';
import { addressPools, requestedAddressIndex } from '../domain/address.ts';
import { type BookedPayment, type BookedPeriod, checkFold, checkTime } from '../domain/books.ts';
import { addSeconds, DAY_SECONDS, type Instant } from '../domain/instant.ts';
import { soldPeriod, subscriptionAt } from '../domain/subscription.ts';
import { type JudgedPeer, judgePeers } from './peer-access.ts';
import { wishesForServer } from './plan-server.ts';
import { loadChain } from './subscription-chain.ts';

/** A row that breaks an invariant. */
export interface Finding {
  readonly invariant: Invariant;
  readonly message: string;
  readonly row: InspectedRow;
}

/** A delivery that a provider was told we have. */
export interface AckedDelivery {
  readonly provider: string;
  readonly dedupeKey: string;
}

export interface DoctorOptions {
  readonly now: string;
  /** Work that should have been done this long ago and was not is a fault. Default 900. */
  readonly overdueSeconds?: number;
  /** How long after the end of access a peer may still be on its host. Default 60. */
  readonly lateSeconds?: number;
  /** Rows reported at most for each rule: a broken table must not fill the memory. Default 20. */
  readonly limit?: number;
  /** For I1: what was answered with 2xx, as the senders remember it. */
  readonly acked?: Iterable<AckedDelivery>;
  /** For I7: what hosts hold once they had time to converge, by server id. */
  readonly observed?: ReadonlyMap<number, readonly ObservedPeer[]>;
  /** Goes into the names of peers; needed with `observed` for hosts that make the keys. */
  readonly installId?: string;
}

/**
 * Looks for rows that break an invariant (I1 to I11 of the operator's guide) in a live database, which it does not
 * change. Memory stays bounded however large the tables are. Nothing found means nothing broken.
 * @throws StoreUnavailableError
 */
export async function runDoctor(store: Store, options: DoctorOptions): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const checks = [checkRules, checkAcked, checkChains, checkDevices, checkHosts];
  for (const check of checks) {
    const perRule = new Map<string, number>();
    for await (const finding of check(store, options)) {
      const count = (perRule.get(finding.message) ?? 0) + 1;
      perRule.set(finding.message, count);
      if (count <= limitOf(options)) findings.push(finding);
    }
  }
  return findings;
}

const PAGE = 200;

function limitOf({ limit = 20 }: DoctorOptions): number {
  return limit;
}

async function* checkRules(store: Store, options: DoctorOptions): AsyncGenerator<Finding> {
  const { now, overdueSeconds = 900 } = options;
  const overdueBefore = addSeconds(now, -overdueSeconds);
  const moments = { now, overdueBefore, dayBefore: addSeconds(now, -DAY_SECONDS) };
  for (const rule of inspectionRules) {
    const { invariant, message } = rule;
    for (const row of await inspect(store, rule, { ...moments, limit: limitOf(options) })) {
      yield { invariant, message, row };
    }
  }
}

async function* checkAcked(store: Store, { acked = [] }: DoctorOptions): AsyncGenerator<Finding> {
  for (const { provider, dedupeKey } of acked) {
    const event = await findEventByDedupeKey(store, provider, dedupeKey);
    if (event !== undefined) continue;
    yield { invariant: 'I1', message: 'a delivery was accepted and is not in the inbox', row: { provider, dedupeKey } };
  }
}

async function* checkChains(store: Store): AsyncGenerator<Finding> {
  for (let afterId = 0; ; ) {
    const userIds = await listUsersWithPeriods(store, { afterId, limit: PAGE });
    const suspects = await findSuspects(store, userIds);
    // Read page by page while others write: only what is still wrong under the user's lock is.
    for (const userId of suspects) {
      yield* await store.transaction(async (tx) => {
        await lockUser(tx, userId);
        return checkUser(tx, userId);
      });
    }
    afterId = userIds.at(-1) ?? 0;
    if (userIds.length < PAGE) return;
  }
}

async function findSuspects(q: Queryable, userIds: readonly number[]): Promise<number[]> {
  const periods = Map.groupBy(await listPeriodsForUsers(q, userIds), ({ user_id }) => user_id);
  const payments = Map.groupBy(await listPaymentFacts(q, userIds), ({ user_id }) => user_id);
  return userIds.filter((id) => {
    const [chain, money] = [periods.get(id) ?? [], payments.get(id) ?? []];
    return checkFold(chain).length > 0 || checkTime(chain, money).length > 0 || takenBack(chain, money).length > 0;
  });
}

/** Periods that an admin took back; those of refunded payments follow from the refund. */
function takenBack<P extends BookedPeriod>(periods: readonly P[], payments: readonly BookedPayment[]): P[] {
  const refunded = new Set(payments.filter(({ status }) => status === 'refunded').map(({ id }) => id));
  return periods.filter(
    (period) => period.revoked_at !== null && !refunded.has(soldPeriod<BookedPeriod>(period, periods).payment_id ?? 0),
  );
}

async function checkUser(q: Queryable, userId: number): Promise<Finding[]> {
  const periods = await listPeriodsForUsers(q, [userId]);
  const payments = await listPaymentFacts(q, [userId]);
  const differences = [...checkFold(periods), ...checkTime(periods, payments)];
  const broken = differences.map(({ invariant, ...row }) => {
    return { invariant, message: 'time was lost or doubled', row: { user_id: userId, ...row } };
  });
  return [...broken, ...(await findUnaudited(q, periods, payments))];
}

async function findUnaudited(
  q: Queryable,
  periods: readonly BookedPeriod[],
  payments: readonly BookedPayment[],
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { id: period_id, user_id, revoked_at } of takenBack(periods, payments)) {
    if (revoked_at === null) continue;
    const act = { action: 'subscription.revoke', target: `user:${user_id}`, at: revoked_at };
    const [audit] = await listAudit(q, act, { limit: 1 });
    if (audit !== undefined) continue;
    const message = 'a period was taken back without a refund and has no audit row';
    findings.push({ invariant: 'I11', message, row: { period_id, user_id, revoked_at } });
  }
  return findings;
}

async function* checkDevices(store: Store, options: DoctorOptions): AsyncGenerator<Finding> {
  for (let afterId = 0; ; ) {
    const peers = await listPeers(store, { which: 'live' }, { afterId, limit: PAGE });
    const servers = await loadServers(store, peers);
    for (const judged of await judgePeers(store, peers, options.now)) {
      const server = servers.get(judged.peer.server_id);
      if (server === undefined) continue;
      yield* checkAddress(judged.peer, server);
      yield* await checkAccess(store, judged, { server, options });
    }
    afterId = peers.at(-1)?.id ?? 0;
    if (peers.length < PAGE) return;
  }
}

async function loadServers(q: Queryable, peers: readonly PeerRow[]): Promise<ReadonlyMap<number, ServerRow>> {
  const wanted = new Set(peers.map(({ server_id }) => server_id));
  const servers = new Map<number, ServerRow>();
  for (let afterId = 0; wanted.size > servers.size; ) {
    const page = await listServers(q, {}, { afterId, limit: PAGE });
    for (const server of page) if (wanted.has(server.id)) servers.set(server.id, server);
    afterId = page.at(-1)?.id ?? 0;
    if (page.length < PAGE) break;
  }
  return servers;
}

function* checkAddress(peer: PeerRow, server: ServerRow): Generator<Finding> {
  if (peer.wg_ip === null || peer.address_index === null) return;
  if (requestedAddressIndex(peer.wg_ip, addressPools(server), []) === peer.address_index) return;
  const row = { peer_id: peer.id, server_id: server.id, wg_ip: peer.wg_ip, address_index: peer.address_index };
  yield { invariant: 'I6', message: 'the address of a device is not its place in the pool', row };
}

interface Situation {
  readonly server: ServerRow;
  readonly options: DoctorOptions;
}

/** Only hosts that were heard of since can be blamed, and only those that we may change. */
async function checkAccess(q: Queryable, { peer, access }: JudgedPeer, situation: Situation): Promise<Finding[]> {
  const { server, options } = situation;
  if (access.allowed || peer.applied_state !== 'present') return [];
  if (server.mode !== 'apply' || server.last_error !== null || server.brake_reason !== null) return [];
  const since = await deniedSince(q, { peer, access }, options.now);
  const { last_seen_at } = server;
  if (since === null || last_seen_at === null || peer.last_error !== null) return [];
  if (last_seen_at <= addSeconds(since, options.lateSeconds ?? 60)) return [];
  const row = { peer_id: peer.id, user_id: peer.user_id, server_id: server.id, reason: access.reason, since };
  return [{ invariant: 'I8', message: 'a device is on its host after its access ended', row }];
}

/** When access ended, where the rows tell. */
async function deniedSince(
  q: Queryable,
  { peer, access }: Pick<JudgedPeer, 'peer' | 'access'>,
  now: string,
): Promise<string | null> {
  if (access.reason === 'deactivated') return peer.deactivated_at;
  if (access.reason !== 'expired') return null;
  return subscriptionAt(await loadChain(q, peer.user_id), now).access_until;
}

async function* checkHosts(
  store: Store,
  { now, observed = new Map(), installId = '' }: DoctorOptions,
): AsyncGenerator<Finding> {
  for (const [serverId, peers] of observed) {
    const { desired } = await wishesForServer(store, { serverId, installId, now: now as Instant });
    const onHost = new Map(peers.filter(({ enabled }) => enabled).map((peer) => [peer.publicKey as string, peer]));
    for (const { publicKey, state, addresses, peerId } of desired.wishes) {
      const found = publicKey === null ? undefined : onHost.get(publicKey);
      const isThere = found !== undefined;
      const isSame = !isThere || found.allowedIps.toSorted().join() === [...addresses].sort().join();
      if (isThere === (state === 'present') && (state !== 'present' || isSame)) continue;
      const row = { server_id: serverId, peer_id: peerId, public_key: publicKey, wanted: state, is_there: isThere };
      yield { invariant: 'I7', message: 'a host holds something else than is paid', row };
    }
  }
}

import {
  claimReportedKeys,
  holdsLease,
  type Lease,
  listKeysOfOthers,
  type PeerRow,
  type ReportedColumns,
  recordReported,
  retireHostKey,
  type Tx,
} from '@vpn-api/db';
import type { ReportedPeer } from '@vpn-api/wg';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';
import { sealKeys } from './peer-rows.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'secretBox' | 'outbox'>;

/** What a host that makes the keys told about one peer. */
export interface PeerReport {
  /** As it was when the host was asked. */
  readonly peer: PeerRow;
  readonly reported: ReportedPeer;
}

/** Few enough that nobody waits for the server's row for long. */
const BATCH = 200;

/**
 * Keeps the keys and addresses that a host made. A peer that had others before must fetch its config again, and its owner
 * is told. Answers what cannot be kept, by peer.
 */
export async function recordReports(
  deps: Deps,
  lease: Lease,
  reports: readonly PeerReport[],
): Promise<ReadonlyMap<number, string>> {
  const refused = new Map<number, string>();
  const news = reports.flatMap((report) => newsOf(deps, report) ?? []);
  for (let from = 0; from < news.length; from += BATCH) {
    await deps.store.transaction(async (tx) => {
      if (!(await holdsLease(tx, lease))) return;
      const conflicts = await recordNews(deps, tx, lease, news.slice(from, from + BATCH));
      for (const peerId of conflicts) refused.set(peerId, 'key_conflict');
    });
  }
  return refused;
}

interface News {
  readonly peer: PeerRow;
  readonly publicKey: string;
  readonly columns: ReportedColumns;
}

/** Answers the peers whose key is somebody else's. */
async function recordNews(deps: Deps, tx: Tx, { serverId }: Lease, news: readonly News[]): Promise<number[]> {
  const at = deps.clock.now();
  const named = news.map(({ peer, publicKey }) => ({ peerId: peer.id, publicKey }));
  const taken = await listKeysOfOthers(tx, named);
  const owners = new Map(named.map(({ publicKey, peerId }) => [publicKey, peerId]));
  const isOurs = ({ peer, publicKey }: News) => !taken.has(publicKey) && owners.get(publicKey) === peer.id;
  const ours = news.filter(isOurs);
  const keys = ours.map(({ peer, publicKey }) => ({ peerId: peer.id, publicKey }));
  await claimReportedKeys(tx, { serverId, keys, at });
  const kept = await recordReported(
    tx,
    ours.map(({ columns }) => columns),
  );
  for (const { peer, publicKey, columns } of ours) {
    if (!kept.has(peer.id)) await retireHostKey(tx, { serverId, publicKey, at });
    else if (mustFetchAgain(peer, columns)) await tellChange(deps, tx, peer, columns.config_version);
  }
  return news.filter((one) => !isOurs(one)).map(({ peer }) => peer.id);
}

/** A peer that was rotated or moved has a new config only now, although it had no keys in between. */
function mustFetchAgain(before: PeerRow, after: ReportedColumns): boolean {
  if (before.public_key === null) return before.config_version > 1;
  return after.config_version !== before.config_version;
}

/** Undefined when nothing is new. */
function newsOf(deps: Deps, { peer, reported }: PeerReport): News | undefined {
  const { publicKey, privateKey, presharedKey, addresses } = reported;
  const isSameKey = publicKey === peer.public_key;
  const wg_ip = addresses.find((address) => !address.includes(':')) ?? null;
  const wg_ip6 = addresses.find((address) => address.includes(':')) ?? null;
  // A host that keeps our addresses names none.
  const place = addresses.length === 0 ? { wg_ip: peer.wg_ip, wg_ip6: peer.wg_ip6 } : { wg_ip, wg_ip6 };
  if (isSameKey && place.wg_ip === peer.wg_ip && place.wg_ip6 === peer.wg_ip6) return undefined;
  // A client without an IPv6 address does well without the one that it was given since.
  const staysGood = isSameKey && place.wg_ip === peer.wg_ip && peer.wg_ip6 === null;
  const known = { private_key_sealed: peer.private_key_sealed, preshared_key_sealed: peer.preshared_key_sealed };
  const columns = {
    id: peer.id,
    version: peer.wanted_version,
    public_key: publicKey,
    ...(isSameKey ? known : sealKeys(deps, peer.id, { privateKey, presharedKey })),
    ...place,
    config_version: peer.public_key === null || staysGood ? peer.config_version : peer.config_version + 1,
  };
  return { peer, publicKey, columns };
}

function tellChange(deps: Deps, tx: Tx, { id, user_id, server_id }: PeerRow, config_version: number): Promise<void> {
  const data = { peer_id: id, user_id, server_id, config_version };
  return emitEvent(deps, tx, { type: 'peer.config_changed', userId: user_id, data });
}

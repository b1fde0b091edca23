import {
  claimReportedKey,
  holdsLease,
  isKeyOfAnother,
  type Lease,
  type PeerRow,
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
const BATCH = 50;

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
  for (let from = 0; from < reports.length; from += BATCH) {
    await deps.store.transaction(async (tx) => {
      if (!(await holdsLease(tx, lease))) return;
      for (const report of reports.slice(from, from + BATCH)) {
        const problem = await recordReport(deps, tx, lease, report);
        if (problem !== undefined) refused.set(report.peer.id, problem);
      }
    });
  }
  return refused;
}

async function recordReport(
  deps: Deps,
  tx: Tx,
  { serverId }: Lease,
  { peer, reported }: PeerReport,
): Promise<string | undefined> {
  const { publicKey } = reported;
  const columns = reportedColumns(deps, peer, reported);
  if (columns === undefined) return undefined;
  if (await isKeyOfAnother(tx, publicKey, peer.id)) return 'key_conflict';
  const at = deps.clock.now();
  await claimReportedKey(tx, { serverId, peerId: peer.id, publicKey, at });
  const isKept = await recordReported(tx, { id: peer.id, version: peer.wanted_version, ...columns });
  if (!isKept) await retireHostKey(tx, { serverId, publicKey, at });
  else if (peer.public_key !== null) await tellChange(deps, tx, peer, columns.config_version);
  return undefined;
}

/** Undefined when nothing is new. */
function reportedColumns(deps: Deps, peer: PeerRow, { publicKey, privateKey, presharedKey, addresses }: ReportedPeer) {
  const isSameKey = publicKey === peer.public_key;
  const wg_ip = addresses.find((address) => !address.includes(':')) ?? null;
  const wg_ip6 = addresses.find((address) => address.includes(':')) ?? null;
  // A host that keeps our addresses names none.
  const place = addresses.length === 0 ? { wg_ip: peer.wg_ip, wg_ip6: peer.wg_ip6 } : { wg_ip, wg_ip6 };
  if (isSameKey && place.wg_ip === peer.wg_ip && place.wg_ip6 === peer.wg_ip6) return undefined;
  const known = { private_key_sealed: peer.private_key_sealed, preshared_key_sealed: peer.preshared_key_sealed };
  return {
    public_key: publicKey,
    ...(isSameKey ? known : sealKeys(deps, peer.id, { privateKey, presharedKey })),
    ...place,
    config_version: peer.public_key === null ? peer.config_version : peer.config_version + 1,
  };
}

function tellChange(deps: Deps, tx: Tx, { id, user_id, server_id }: PeerRow, config_version: number): Promise<void> {
  const data = { peer_id: id, user_id, server_id, config_version };
  return emitEvent(deps, tx, { type: 'peer.config_changed', userId: user_id, data });
}

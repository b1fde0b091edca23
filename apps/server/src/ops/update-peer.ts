import { findServer, listPeersForUser, lockServer, type PeerRow, type ServerRow, type Tx, updatePeer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { deviceRanks } from '../domain/peer.ts';
import { subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { changePeer, type PeerRequest, wantOnHost } from './change-peer.ts';
import { judgePeer, type JudgedPeer } from './peer-access.ts';
import { addressColumns, claimOnHost } from './peer-rows.ts';
import { namedIndex } from './place-peer.ts';
import { loadChain } from './subscription-chain.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

export interface PeerEdit {
  readonly deviceName?: string | null | undefined;
  /** Routes of the client; null is the server's default. */
  readonly allowedIps?: string | null | undefined;
  /** Only an admin may ask for an address. */
  readonly address?: string | undefined;
}

/** @throws DomainError `peer_not_found`, `address_conflict` */
export async function updatePeerFields(deps: Deps, request: PeerRequest, edit: PeerEdit): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changePeer(deps, request, {
    action: 'peer.update',
    apply: async (tx, peer) => {
      const server = await findServer(tx, peer.server_id);
      if (server === undefined) throw new DomainError('server_not_found');
      const readdressed = edit.address === undefined ? peer : await readdress(tx, peer, { server, address: edit.address, now });
      const updated = await updatePeer(tx, peer.id, editedColumns(readdressed, server, edit));
      return judgePeer(tx, updated ?? readdressed, now);
    },
  });
}

function editedColumns(peer: PeerRow, server: ServerRow, edit: PeerEdit) {
  const allowed_ips = edit.allowedIps === undefined ? peer.allowed_ips : (edit.allowedIps ?? server.client_allowed_ips);
  return {
    device_name: edit.deviceName === undefined ? peer.device_name : edit.deviceName,
    allowed_ips,
    config_version: peer.config_version + (allowed_ips === peer.allowed_ips ? 0 : 1),
  };
}

interface Readdress {
  readonly server: ServerRow;
  readonly address: string;
  readonly now: string;
}

async function readdress(tx: Tx, peer: PeerRow, { server, address, now }: Readdress): Promise<PeerRow> {
  await lockServer(tx, server.id);
  if (peer.wg_ip === address || peer.wg_ip === `${address}/32`) return peer;
  const columns = addressColumns(server, await namedIndex(tx, server, address, now));
  const moved = await wantOnHost(tx, peer, { ...columns, config_version: peer.config_version + 1 }, now);
  await claimOnHost(tx, moved, now);
  return moved;
}

/** @throws DomainError `peer_not_found` */
export async function deactivatePeer(deps: Deps, request: PeerRequest): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changePeer(deps, request, {
    action: 'peer.deactivate',
    apply: async (tx, peer) => {
      if (peer.deactivated_at !== null) return judgePeer(tx, peer, now);
      return judgePeer(tx, await wantOnHost(tx, peer, { deactivated_at: now }, now), now);
    },
  });
}

/** @throws DomainError `peer_not_found`, `device_limit_reached` when the tariff allows fewer devices by now */
export async function activatePeer(deps: Deps, request: PeerRequest): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changePeer(deps, request, {
    action: 'peer.activate',
    apply: async (tx, peer) => {
      if (peer.deactivated_at === null) return judgePeer(tx, peer, now);
      await assertWithinLimit(tx, peer, now);
      return judgePeer(tx, await wantOnHost(tx, peer, { deactivated_at: null }, now), now);
    },
  });
}

async function assertWithinLimit(tx: Tx, peer: PeerRow, now: string): Promise<void> {
  const { current } = subscriptionAt(await loadChain(tx, peer.user_id), now);
  const rank = deviceRanks(await listPeersForUser(tx, peer.user_id)).get(peer.id) ?? 0;
  if (current !== undefined && rank >= current.device_limit) throw new DomainError('device_limit_reached');
}

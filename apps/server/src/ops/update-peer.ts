import { changePeer, findServer, lockServer, type PeerRow, type ServerRow, type Tx, updatePeer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';
import { type JudgedPeer, judgePeer } from './peer-access.ts';
import { addressColumns } from './peer-rows.ts';
import { choosesAddresses, namedIndex } from './place-peer.ts';
import { tellNewConfig } from './tell-peers.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'outbox'>;

export interface PeerEdit {
  readonly deviceName?: string | null | undefined;
  /** Routes of the client; null is the server's default. */
  readonly allowedIps?: string | null | undefined;
  /** `10.8.0.14/32`. Only an admin may ask for one. */
  readonly address?: string | undefined;
}

/** @throws DomainError `peer_not_found`, `address_conflict` */
export async function updatePeerFields(deps: Deps, request: PeerRequest, edit: PeerEdit): Promise<JudgedPeer> {
  const now = deps.clock.now();
  return changeOwnedPeer(deps, request, {
    action: 'peer.update',
    apply: async (tx, peer) => {
      const server = await findServer(tx, peer.server_id);
      if (server === undefined) throw new DomainError('server_not_found');
      const { address } = edit;
      const readdressed = address === undefined ? peer : await readdress(deps, tx, peer, { server, address, now });
      return judgePeer(tx, await updatePeer(tx, peer.id, editedColumns(readdressed, server, edit)), now);
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
  readonly now: Instant;
}

async function readdress(deps: Deps, tx: Tx, peer: PeerRow, { server, address, now }: Readdress): Promise<PeerRow> {
  if (peer.wg_ip === address) return peer;
  if (choosesAddresses(server)) throw new DomainError('address_conflict');
  await lockServer(tx, server.id);
  const columns = addressColumns(server, await namedIndex(tx, server, { address, now }));
  const moved = await changePeer(tx, peer.id, { ...columns, config_version: peer.config_version + 1, at: now });
  await tellNewConfig(deps, tx, moved);
  return moved;
}

import { changePeer, findServer, type PeerRow, retireHostPeers, type ServerRow, type Tx } from '@vpn-api/db';
import { generateKeyPair, generatePresharedKey } from '@vpn-api/wg';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { changeOwnedPeer, type PeerRequest } from './change-owned-peer.ts';
import { emitEvent } from './emit-event.ts';
import { type JudgedPeer, judgePeer } from './peer-access.ts';
import { addressColumns, sealKeys } from './peer-rows.ts';
import { type Placement, placePeer } from './place-peer.ts';

export type MoveDeps = Pick<Services, 'store' | 'clock' | 'reconciler' | 'secretBox' | 'outbox'>;

export type MoveTarget = Pick<Placement, 'serverId' | 'region'>;

/**
 * Puts a device on another server: with its keys where those are ours to give, at a new address. The old host loses its key
 * at its next pass. A peer that is there already stays as it is, so a repeat is harmless.
 * @throws DomainError `peer_not_found`, `server_not_found`, `server_retired`, `no_capacity`, `peer_pending` for one whose
 * host has not told its keys yet
 */
export async function movePeer(deps: MoveDeps, request: PeerRequest, target: MoveTarget): Promise<JudgedPeer> {
  return changeOwnedPeer(deps, request, {
    action: 'peer.move',
    apply: async (tx, peer) => {
      const from = await findServer(tx, peer.server_id);
      const isThere = peer.server_id === target.serverId || (target.region != null && from?.region === target.region);
      if (isThere) return judgePeer(tx, peer, deps.clock.now());
      // Its name on the old host is all that could find it there again.
      if (peer.public_key === null) throw new DomainError('peer_pending', { retryAfterSeconds: 2 });
      return judgePeer(tx, await relocatePeer(deps, tx, peer, target), deps.clock.now());
    },
  });
}

/**
 * Moves a live peer, whose owner's row and whose own are locked, to a server by the rules of placement.
 * @throws DomainError as {@link movePeer}
 */
export async function relocatePeer(deps: MoveDeps, tx: Tx, peer: PeerRow, target: MoveTarget): Promise<PeerRow> {
  const now = deps.clock.now();
  const from = await findServer(tx, peer.server_id);
  if (from === undefined) throw new DomainError('server_not_found');
  const placement = { ...target, exceptServerId: from.id, preferRegion: from.region };
  const { server: to, index } = await placePeer(tx, placement, now);
  await retireHostPeers(tx, peer.id, { at: now, serverId: from.id });
  const moved = await changePeer(tx, peer.id, {
    server_id: to.id,
    moved_from_id: from.id,
    ...addressColumns(to, index),
    ...ABSENT,
    ...keysOn(deps, to, peer),
    allowed_ips: peer.allowed_ips === from.client_allowed_ips ? to.client_allowed_ips : peer.allowed_ips,
    config_version: peer.config_version + 1,
    at: now,
  });
  await tellMove(deps, tx, moved, from.id);
  tx.onCommit(() => deps.reconciler.wake([from.id, to.id]));
  return moved;
}

/** The new host has nothing of it yet. */
const ABSENT = { applied_state: 'none', applied_at: null } as const;

/** A pair stays with its peer where the host takes it. What the client submitted stays, so that a repeat finds its peer. */
function keysOn({ secretBox }: MoveDeps, to: ServerRow, peer: PeerRow) {
  if (to.keys === 'reported') {
    return { public_key: null, private_key_sealed: null, preshared_key_sealed: null, key_origin: 'host' } as const;
  }
  if (peer.public_key !== null) return {};
  const pair = generateKeyPair();
  const keys = { privateKey: pair.privateKey, presharedKey: generatePresharedKey() };
  return { public_key: pair.publicKey, key_origin: 'server', ...sealKeys({ secretBox }, peer.id, keys) } as const;
}

async function tellMove(deps: MoveDeps, tx: Tx, peer: PeerRow, from_server_id: number): Promise<void> {
  const { id: peer_id, user_id, server_id, config_version } = peer;
  const data = { peer_id, user_id, server_id, config_version, from_server_id };
  await emitEvent(deps, tx, { type: 'peer.moved', userId: user_id, data });
  await emitEvent(deps, tx, { type: 'peer.config_changed', userId: user_id, data });
}

import type { z } from 'zod';
import type { CreatedPeer } from '../../ops/create-peer.ts';
import type { JudgedPeer } from '../../ops/peer-access.ts';
import type { peerSchema, peerStatusSchema } from './schemas.ts';

export function peerView({ peer, state }: JudgedPeer): z.output<typeof peerSchema> {
  return {
    id: peer.id,
    user_id: peer.user_id,
    server_id: peer.server_id,
    device_name: peer.device_name,
    wg_public_key: peer.public_key,
    wg_private_key: null,
    wg_ip: peer.wg_ip,
    wg_ip6: peer.wg_ip6,
    allowed_ips: peer.allowed_ips,
    active: peer.deactivated_at === null && peer.removed_at === null,
    state,
    config_version: peer.config_version,
    created_at: peer.created_at,
    last_handshake_at: peer.last_handshake_at,
    rx_bytes: peer.rx_bytes,
    tx_bytes: peer.tx_bytes,
  };
}

/** For the one answer that shows the private key. */
export function createdPeerView(created: CreatedPeer): z.output<typeof peerSchema> {
  return { ...peerView(created), wg_private_key: created.privateKey };
}

export function peerStatusView({ peer, access, state, expiresAt }: JudgedPeer): z.output<typeof peerStatusSchema> {
  return {
    peer_id: peer.id,
    allowed: access.allowed,
    reason: access.reason,
    active: peer.deactivated_at === null && peer.removed_at === null,
    state,
    applied_at: peer.applied_at,
    pending_since: state === 'pending' || state === 'failed' || state === 'removing' ? peer.pending_since : null,
    last_error: peer.last_error,
    last_handshake_at: peer.last_handshake_at,
    endpoint_since: peer.endpoint_since,
    rx_bytes: peer.rx_bytes,
    tx_bytes: peer.tx_bytes,
    expires_at: expiresAt,
  };
}

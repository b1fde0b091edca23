import { z } from 'zod';
import { id, instant, name, text } from '../fields.ts';

export const peerState = z.enum(['pending', 'active', 'suspended', 'removing', 'failed']);

/** `Peer` on the wire. `wg_private_key` is there only in the answer of the call that made the keys. */
export const peerSchema = z.object({
  id,
  user_id: id,
  server_id: id,
  device_name: z.string().nullable(),
  wg_public_key: z.string().nullable(),
  wg_private_key: z.string().nullable(),
  wg_ip: z.string().nullable(),
  wg_ip6: z.string().nullable(),
  allowed_ips: z.string(),
  active: z.boolean(),
  state: peerState,
  config_version: z.int(),
  created_at: instant,
  last_handshake_at: instant.nullable(),
  rx_bytes: z.int(),
  tx_bytes: z.int(),
});

export const peerStatusSchema = z.object({
  peer_id: id,
  allowed: z.boolean(),
  reason: z.enum([
    'active',
    'grace',
    'expired',
    'no_subscription',
    'blocked',
    'deactivated',
    'quota_exceeded',
    'device_limit_exceeded',
  ]),
  active: z.boolean(),
  state: peerState,
  applied_at: instant.nullable(),
  pending_since: instant.nullable(),
  last_error: z.string().nullable(),
  last_handshake_at: instant.nullable(),
  endpoint_since: instant
    .nullable()
    .describe('Since when the peer is seen at the same address; its age is the time since then'),
  rx_bytes: z.int().describe('Received from the peer, over all restarts of its host'),
  tx_bytes: z.int().describe('Sent to the peer, over all restarts of its host'),
  expires_at: instant.nullable(),
});

export const configSchema = z.object({ wg_quick: z.string() });

/** What a caller may choose about a new device. Keys are checked where they are used, since their text is never stored as sent. */
export const newPeerFields = {
  device_name: text(64).nullish(),
  wg_public_key: z.string().max(64).nullish(),
  server_id: id.nullish(),
  region: name(64).nullish(),
} as const;

/** Routes of the client as a comma list; read and printed again by the server before use. */
export const clientRoutes = z.string().min(1).max(2000);

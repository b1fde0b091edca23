import type { z } from 'zod';
import { type Instant, secondsBetween } from '../../domain/instant.ts';
import { isHealthy } from '../../domain/server.ts';
import { type PlannedAction, plannedChanges } from '../../ops/plan-host.ts';
import type { ServerPlan } from '../../ops/plan-server.ts';
import type { LoadedServer } from '../../ops/server-load.ts';
import { settingsOf } from '../../ops/server-settings.ts';
import type { planSchema, serverSchema } from './schemas.ts';

export function serverView({ server, load }: LoadedServer, now: Instant): z.output<typeof serverSchema> {
  const { scripts, protocol_params } = settingsOf(server);
  const since = load.oldest_pending_since;
  return {
    id: server.id,
    name: server.name,
    region: server.region,
    driver: server.driver,
    driver_version: server.driver_version,
    keys: server.keys,
    mode: server.mode,
    origin: server.origin,
    address: server.address,
    username: server.username,
    has_credentials: server.credentials_sealed !== null,
    host_fingerprint: server.host_fingerprint,
    privilege: server.privilege,
    scripts: { ...scripts },
    interface: server.interface,
    endpoint: server.endpoint,
    public_key: server.public_key,
    pool_v4: server.pool_v4,
    pool_v6: server.pool_v6,
    dns: server.dns,
    mtu: server.mtu,
    client_allowed_ips: server.client_allowed_ips,
    keepalive: server.keepalive,
    protocol: server.protocol,
    protocol_params: { ...protocol_params },
    capacity: server.capacity,
    weight: server.weight,
    draining: server.draining_at !== null,
    retired_at: server.retired_at,
    peers: load.peers,
    healthy: isHealthy(server),
    attempts: server.attempts,
    last_seen_at: server.last_seen_at,
    last_error: server.last_error,
    brake_reason: server.brake_reason,
    pending_changes: server.pending_changes,
    oldest_pending_seconds: since === null ? null : Math.max(0, Math.floor(secondsBetween(since, now))),
    created_at: server.created_at,
  };
}

/** More than anybody reads; the counts say how many there are. */
const MAX_LISTED = 1_000;

export function planView(plan: ServerPlan): z.output<typeof planSchema> {
  const { wishes, diff, brake } = plan;
  const changes = plannedChanges(plan);
  const count = (action: PlannedAction) => changes.filter((change) => change.action === action).length;
  const peerIds = new Map(wishes.desired.wishes.map((wish) => [wish.tag, wish.peerId]));
  return {
    server_id: wishes.server.id,
    mode: wishes.server.mode,
    counts: { add: count('add'), change: count('change'), suspend: count('suspend'), remove: count('remove') },
    changes: changes.slice(0, MAX_LISTED).map(({ action, publicKey, addresses, tag, peerId, userId, reason }) => ({
      action,
      public_key: publicKey,
      addresses: [...addresses],
      tag,
      peer_id: peerId,
      user_id: userId,
      reason,
    })),
    changes_left_out: Math.max(0, changes.length - MAX_LISTED),
    unchanged: diff.unchanged,
    foreign: diff.foreign.length,
    conflicts: diff.conflicts.slice(0, MAX_LISTED).map(({ kind, tag, publicKey, address, heldBy }) => ({
      kind,
      peer_id: peerIds.get(tag) ?? null,
      public_key: publicKey,
      address: address ?? null,
      held_by: heldBy,
    })),
    unready_peer_ids: wishes.desired.unready.slice(0, MAX_LISTED),
    brake: brake === undefined ? null : { removals: brake.unscheduled, present: brake.present },
  };
}

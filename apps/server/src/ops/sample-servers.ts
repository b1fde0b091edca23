import { listServers } from '@vpn-api/db';
import { epochMs, type Instant, secondsBetween } from '../domain/instant.ts';
import { isHealthy, MAX_SERVERS } from '../domain/server.ts';
import type { ServerSample } from '../obs/metrics.ts';
import type { Services } from '../services.ts';
import { type LoadedServer, loadServers } from './server-load.ts';

/** How every host is, for the metrics. A retired one is nobody's concern any more. */
export async function sampleServers({ store, clock }: Pick<Services, 'store' | 'clock'>): Promise<ServerSample[]> {
  const servers = await listServers(store, {}, { limit: MAX_SERVERS });
  const loaded = await loadServers(
    store,
    servers.filter(({ retired_at }) => retired_at === null),
  );
  return loaded.map((one) => sampleOf(one, clock.now()));
}

function sampleOf({ server, load }: LoadedServer, now: Instant): ServerSample {
  const { oldest_pending_since: since } = load;
  return {
    server: server.name,
    peers: load.peers,
    healthy: isHealthy(server),
    braked: server.mode === 'apply' && server.brake_reason !== null,
    pendingChanges: server.pending_changes,
    oldestPendingSeconds: since === null ? 0 : Math.max(0, secondsBetween(since as Instant, now)),
    lastSeenSeconds: server.last_seen_at === null ? undefined : epochMs(server.last_seen_at as Instant) / 1000,
  };
}

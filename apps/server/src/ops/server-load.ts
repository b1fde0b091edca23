import { listServerLoads, type Queryable, type ServerLoad, type ServerRow } from '@vpn-api/db';

/** A server with what its peers make of it. */
export interface LoadedServer {
  readonly server: ServerRow;
  readonly load: Omit<ServerLoad, 'server_id'>;
}

/** One query for any number of servers. */
export async function loadServers(q: Queryable, servers: readonly ServerRow[]): Promise<LoadedServer[]> {
  if (servers.length === 0) return [];
  const rows = await listServerLoads(
    q,
    servers.map(({ id }) => id),
  );
  const loads = new Map(rows.map((row) => [row.server_id, row]));
  return servers.map((server) => ({ server, load: loads.get(server.id) ?? { peers: 0, oldest_pending_since: null } }));
}

export async function loadServer(q: Queryable, server: ServerRow): Promise<LoadedServer> {
  const [loaded] = await loadServers(q, [server]);
  return loaded as LoadedServer;
}

import { findServerByName, inheritHostPeers, listServers, lockServer, type ServerRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { hostIdentity, MAX_SERVERS } from '../domain/server.ts';
import { ENV_SERVER_NAME } from './env-server.ts';

/**
 * Sees to it that a server that was just written is the only one of its host: with two rows there would be two leases, and
 * two writers. What removed servers had on the same host becomes its own, so that it goes from there.
 * @throws DomainError `server_exists` naming the other one
 */
export async function claimHost(tx: Tx, server: ServerRow, at: Instant): Promise<void> {
  const identity = hostIdentity(server);
  if (identity === undefined) return;
  // The one row that is always there: two callers at once must see each other.
  const env = await findServerByName(tx, ENV_SERVER_NAME);
  if (env !== undefined) await lockServer(tx, env.id);
  const all = await listServers(tx, { which: 'all' }, { limit: MAX_SERVERS });
  const others = all.filter((other) => other.id !== server.id && hostIdentity(other) === identity);
  const rival = others.find(({ removed_at }) => removed_at === null);
  if (rival !== undefined)
    throw new DomainError('server_exists', { issues: [{ path: 'address', message: ofRival(rival) }] });
  await inheritHostPeers(tx, { from: others.map(({ id }) => id), to: server.id, at });
}

function ofRival({ id, retired_at }: ServerRow): string {
  return `server ${id} is this host already${retired_at === null ? '' : ', and retired: unretire it'}`;
}

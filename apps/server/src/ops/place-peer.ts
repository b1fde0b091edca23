import {
  findHighestAddress,
  isAddressTaken,
  listAddressGaps,
  listForeignPeers,
  listServerLoads,
  listServers,
  lockServer,
  type ServerRow,
  type Tx,
} from '@vpn-api/db';
import { FIRST_PEER_INDEX } from '@vpn-api/wg/address';
import {
  ADDRESS_REST_SECONDS,
  addressPools,
  chooseIndexAbove,
  chooseIndexInGaps,
  requestedAddressIndex,
} from '../domain/address.ts';
import { DomainError } from '../domain/errors.ts';
import { addSeconds } from '../domain/instant.ts';

export interface Placement {
  readonly serverId?: number | null | undefined;
  readonly region?: string | null | undefined;
}

/**
 * Picks a server and a free address on it. The server's row is locked, so that two callers never pick the same address.
 * @throws DomainError `server_not_found`, `no_capacity`
 */
export async function placePeer(
  tx: Tx,
  placement: Placement,
  now: string,
): Promise<{ server: ServerRow; index: number }> {
  for (const { id } of await candidatesFor(tx, placement)) {
    const server = await lockServer(tx, id);
    if (server === undefined) continue;
    const index = await freeIndex(tx, server, now);
    if (index !== undefined) return { server, index };
  }
  throw new DomainError('no_capacity', { retryAfterSeconds: 60 });
}

type LoadedServer = ServerRow & { readonly peers: number };

/** Least loaded first, by peers for its weight; a named server is taken even while it drains. */
async function candidatesFor(tx: Tx, { serverId, region }: Placement): Promise<readonly LoadedServer[]> {
  const peers = new Map((await listServerLoads(tx)).map((load) => [load.server_id, load.peers]));
  const servers = (await listServers(tx)).map((server) => ({ ...server, peers: peers.get(server.id) ?? 0 }));
  if (serverId != null) {
    const named = servers.filter((server) => server.id === serverId);
    if (named.length === 0) throw new DomainError('server_not_found');
    return named.filter(hasRoom);
  }
  return servers
    .filter((server) => (region == null || server.region === region) && server.draining_at === null && hasRoom(server))
    .toSorted((a, b) => load(a) - load(b) || a.id - b.id);
}

function hasRoom({ peers, capacity }: LoadedServer): boolean {
  return capacity === null || peers < capacity;
}

function load({ peers, weight }: LoadedServer): number {
  return weight === 0 ? Number.POSITIVE_INFINITY : peers / weight;
}

/** Two look-ups while the pool has room above; the gaps are read only once its top is reached. */
async function freeIndex(tx: Tx, server: ServerRow, now: string): Promise<number | undefined> {
  const { pools, foreign, query } = await addressSpace(tx, server, now);
  const above = chooseIndexAbove(pools, await findHighestAddress(tx, query), foreign);
  if (above !== undefined) return above;
  const gaps = await listAddressGaps(tx, query, { first: FIRST_PEER_INDEX, limit: MAX_GAPS });
  return chooseIndexInGaps(pools, gaps, foreign);
}

/**
 * The place of an address that an admin asks for, `10.8.0.14` or `10.8.0.14/32`. The caller holds the server's lock.
 * @throws DomainError `address_conflict` when it is not in the pool or not free
 */
export async function namedIndex(tx: Tx, server: ServerRow, address: string, now: string): Promise<number> {
  const { pools, foreign, query } = await addressSpace(tx, server, now);
  const index = requestedAddressIndex(address, { pools, taken: [], foreign });
  if (index === undefined || (await isAddressTaken(tx, query, index))) throw new DomainError('address_conflict');
  return index;
}

/** More gaps than a pool of this size can have in practice; a smaller bound would call a free address taken. */
const MAX_GAPS = 10_000;

async function addressSpace(tx: Tx, server: ServerRow, now: string) {
  const foreign = (await listForeignPeers(tx, server.id)).flatMap((peer) => peer.allowed_ips.split(', '));
  const query = { serverId: server.id, restingSince: addSeconds(now, -ADDRESS_REST_SECONDS) };
  return { pools: addressPools(server), foreign, query };
}

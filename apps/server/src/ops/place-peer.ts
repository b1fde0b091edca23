import {
  countPeers,
  findHighestAddress,
  findServer,
  isAddressTaken,
  listAddressGaps,
  listForeignPeers,
  listServerLoads,
  listServers,
  lockServer,
  releaseRestedAddresses,
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
import { addSeconds, type Instant } from '../domain/instant.ts';
import { isHealthy, MAX_SERVERS } from '../domain/server.ts';

export interface Placement {
  readonly serverId?: number | null | undefined;
  readonly region?: string | null | undefined;
  /** Elsewhere: the server that a peer leaves. */
  readonly exceptServerId?: number | undefined;
  /** Taken first where no region is asked for. */
  readonly preferRegion?: string | null | undefined;
}

/** How soon a caller may ask again for a place: addresses come back all the time. */
const RETRY_SECONDS = 60;

/** A wg-easy gives out the addresses itself. */
export function choosesAddresses({ driver }: Pick<ServerRow, 'driver'>): boolean {
  return driver === 'wg-easy';
}

/**
 * Picks a server and a free address on it; null where the host chooses the address. The server's row is locked, so that two callers never pick the same address.
 * @throws DomainError `server_not_found`, `server_retired`, `no_capacity`
 */
export async function placePeer(
  tx: Tx,
  placement: Placement,
  now: Instant,
): Promise<{ server: ServerRow; index: number | null }> {
  for (const { id } of await candidatesFor(tx, placement)) {
    const server = await lockServer(tx, id);
    // What was read before the lock may have changed since.
    if (placement.serverId != null) assertTakesNamed(server);
    else if (server === undefined || !takesPeers(server)) continue;
    if (server === undefined || !(await hasRoom(tx, server))) continue;
    const index = choosesAddresses(server) ? null : await freeIndex(tx, server, now);
    if (index !== undefined) return { server, index };
  }
  throw new DomainError('no_capacity', { retryAfterSeconds: RETRY_SECONDS });
}

/** A named server is taken even while it drains or is only observed. */
async function candidatesFor(tx: Tx, placement: Placement): Promise<readonly ServerRow[]> {
  const { serverId, region } = placement;
  if (serverId != null) return [assertTakesNamed(await findServer(tx, serverId))];
  const servers = await listServers(tx, { region: region ?? undefined }, { limit: MAX_SERVERS });
  return bestFirst(tx, openServers(servers, placement), placement);
}

/** @throws DomainError `server_not_found`, `server_retired` */
function assertTakesNamed(server: ServerRow | undefined): ServerRow {
  if (server === undefined || server.removed_at !== null) throw new DomainError('server_not_found');
  if (server.retired_at !== null) throw new DomainError('server_retired');
  return server;
}

/**
 * Servers that nobody has to name. An observed one would let a customer wait for a person; only where the settings
 * describe the one server that there is, its peers wait there rather than nowhere.
 */
function openServers(servers: readonly ServerRow[], { exceptServerId }: Placement): readonly ServerRow[] {
  const open = servers.filter((server) => takesPeers(server) && server.id !== exceptServerId);
  const applied = open.filter(({ mode }) => mode === 'apply');
  return applied.length > 0 ? applied : open.filter(({ origin }) => origin === 'env');
}

function takesPeers({ draining_at, retired_at, removed_at }: ServerRow): boolean {
  return draining_at === null && retired_at === null && removed_at === null;
}

/**
 * Healthy ones first, then those where the peer is now, then by peers for their weight. Counting takes as long as there
 * are peers, so not where there is no choice.
 */
async function bestFirst(
  tx: Tx,
  servers: readonly ServerRow[],
  { preferRegion }: Placement,
): Promise<readonly ServerRow[]> {
  if (servers.length < 2) return servers;
  const peers = new Map((await listServerLoads(tx)).map((load) => [load.server_id, load.peers]));
  const load = ({ id, weight }: ServerRow) => (weight === 0 ? Number.MAX_VALUE : (peers.get(id) ?? 0) / weight);
  const far = ({ region }: ServerRow) => Number(preferRegion != null && region !== preferRegion);
  const ill = (server: ServerRow) => Number(!isHealthy(server));
  return servers.toSorted((a, b) => ill(a) - ill(b) || far(a) - far(b) || load(a) - load(b) || a.id - b.id);
}

async function hasRoom(tx: Tx, { id, capacity }: ServerRow): Promise<boolean> {
  return capacity === null || (await countPeers(tx, { serverId: id })) < capacity;
}

/** More gaps than the foreign ranges in a pool can ever cover. */
const MAX_GAPS = 10_000;

/** A free place in the server's pools; undefined when they are full. The caller holds the server's lock. */
export async function freeIndex(tx: Tx, server: ServerRow, now: Instant): Promise<number | undefined> {
  const { query, pools, foreign } = await addressSpace(tx, server, now);
  const above = chooseIndexAbove(pools, await findHighestAddress(tx, query), foreign);
  if (above !== undefined) return above;
  await releaseRestedAddresses(tx, query.restingSince);
  const gaps = await listAddressGaps(tx, query, { first: FIRST_PEER_INDEX, limit: MAX_GAPS });
  return chooseIndexInGaps(pools, gaps, foreign);
}

/**
 * The place of an address that somebody asks for, `10.8.0.14` or `10.8.0.14/32`. The caller holds the server's lock.
 * @throws DomainError `address_conflict` when it is not in the pool or not free
 */
export async function namedIndex(
  tx: Tx,
  server: ServerRow,
  { address, now }: { readonly address: string; readonly now: Instant },
): Promise<number> {
  const { query, pools, foreign } = await addressSpace(tx, server, now);
  await releaseRestedAddresses(tx, query.restingSince);
  const index = requestedAddressIndex(address, pools, foreign);
  if (index === undefined || (await isAddressTaken(tx, query, index))) throw new DomainError('address_conflict');
  return index;
}

async function addressSpace(tx: Tx, server: ServerRow, now: Instant) {
  const foreign = (await listForeignPeers(tx, server.id)).flatMap((peer) => peer.allowed_ips.split(', '));
  const query = { serverId: server.id, restingSince: addSeconds(now, -ADDRESS_REST_SECONDS) };
  return { query, pools: addressPools(server), foreign };
}

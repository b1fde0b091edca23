import {
  changePeer,
  givePlaces,
  listPeers,
  listUsersOfServer,
  lockUsers,
  type PeerRow,
  type ServerRow,
  type Tx,
} from '@vpn-api/db';
import { generateKeyPair, generatePresharedKey } from '@vpn-api/wg';
import { addressPools, requestedAddressIndex } from '../domain/address.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';
import { addressColumns, sealKeys } from './peer-rows.ts';
import { choosesAddresses, freeIndex } from './place-peer.ts';

type Deps = Pick<Services, 'clock' | 'secretBox' | 'outbox'>;

const PAGE = 1_000;

/** Whether a host that gave out the addresses makes room for one where they are ours to give. */
export function takesOverAddresses(before: Pick<ServerRow, 'driver'>, after: Pick<ServerRow, 'driver'>): boolean {
  return choosesAddresses(before) && !choosesAddresses(after);
}

/** Before anything else is locked: nobody's devices change while their places are taken over. */
export async function lockOwners(tx: Tx, serverId: number): Promise<void> {
  await lockUsers(tx, await listUsersOfServer(tx, serverId));
}

/**
 * Numbers the peers of a server whose host used to choose their addresses: each keeps its address as its place in the
 * pools, and its keys, so clients go on with the configs they have. Who had no keys yet gets them here. Only who cannot
 * keep an address (an IPv6 one that is not at the same place in its pool, or one that two peers have) must fetch a new
 * config, and is told. The caller holds the locks of the owners and of the server, which has its new columns already.
 * @throws DomainError `validation_failed` when the pool does not have the address of a peer, `no_capacity`
 */
export async function keepPlaces(deps: Deps, tx: Tx, server: ServerRow): Promise<void> {
  const pools = addressPools(server);
  const taken = new Set<number>();
  const kept: { id: number; address_index: number }[] = [];
  const moving: { peer: PeerRow; index: number | undefined }[] = [];
  for (const peer of await livePeers(tx, server.id)) {
    const index = peer.wg_ip === null ? undefined : requestedAddressIndex(peer.wg_ip, pools, []);
    if (peer.wg_ip !== null && index === undefined) {
      throw invalidField('pool_v4', `must have the address of every peer, ${peer.wg_ip} of peer ${peer.id} too`);
    }
    const free = index === undefined || taken.has(index) ? undefined : index;
    if (free !== undefined) taken.add(free);
    const keepsAll =
      free !== undefined && (peer.wg_ip6 === null || peer.wg_ip6 === addressColumns(server, free).wg_ip6);
    if (keepsAll) kept.push({ id: peer.id, address_index: free });
    else moving.push({ peer, index: free });
  }
  await givePlaces(tx, kept);
  // Those with a place of their own first: the others look for what is free.
  for (const { peer, index } of moving.toSorted(
    (a, b) => Number(a.index === undefined) - Number(b.index === undefined),
  )) {
    await movePlace(deps, tx, server, { peer, index });
  }
}

async function livePeers(tx: Tx, serverId: number): Promise<PeerRow[]> {
  const peers: PeerRow[] = [];
  for (let afterId: number | undefined = 0; afterId !== undefined; ) {
    const page: PeerRow[] = await listPeers(tx, { serverId }, { afterId, limit: PAGE });
    peers.push(...page);
    afterId = page.length < PAGE ? undefined : page.at(-1)?.id;
  }
  return peers;
}

async function movePlace(
  deps: Deps,
  tx: Tx,
  server: ServerRow,
  { peer, index: own }: { readonly peer: PeerRow; readonly index: number | undefined },
): Promise<void> {
  const at = deps.clock.now();
  const index = own ?? (await freeIndex(tx, server, at));
  if (index === undefined) throw new DomainError('no_capacity');
  const isKeyless = peer.public_key === null && server.keys === 'given';
  // Nobody has a config yet that could be out of date.
  const config_version = peer.public_key === null ? peer.config_version : peer.config_version + 1;
  const keys = isKeyless ? newKeys(deps, peer) : {};
  await changePeer(tx, peer.id, { ...addressColumns(server, index), ...keys, config_version, at });
  if (peer.public_key === null) return;
  const data = { peer_id: peer.id, user_id: peer.user_id, server_id: server.id, config_version };
  await emitEvent(deps, tx, { type: 'peer.config_changed', userId: peer.user_id, data });
}

function newKeys({ secretBox }: Deps, { id }: PeerRow) {
  const { publicKey, privateKey } = generateKeyPair();
  const sealed = sealKeys({ secretBox }, id, { privateKey, presharedKey: generatePresharedKey() });
  return { public_key: publicKey, key_origin: 'server', ...sealed } as const;
}

import {
  countDevices,
  findKeylessPeer,
  findPeerBySubmittedKey,
  insertPeer,
  lockUser,
  type PeerRow,
  type Tx,
} from '@vpn-api/db';
import type { PublicKey } from '@vpn-api/wg';
import type { AccountActor } from '../api/actor.ts';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { subscriptionAt } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { assertMayActFor } from './act-for-user.ts';
import { type AuditSource, audit } from './audit.ts';
import { type JudgedPeer, judgePeer } from './peer-access.ts';
import { chooseKeys, readSubmittedKey } from './peer-keys.ts';
import { addressColumns, asKeyConflict, assertKeyFree, storeKeys } from './peer-rows.ts';
import { type Placement, placePeer } from './place-peer.ts';
import { loadChain } from './subscription-chain.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'secretBox' | 'reconciler' | 'config'>;

export interface CreatePeer extends Placement {
  readonly caller: AccountActor;
  readonly userId: number;
  readonly deviceName?: string | null | undefined;
  readonly publicKey?: string | null | undefined;
}

/** A peer as its creating call answers it: the only time that a private key is shown beside it. */
export interface CreatedPeer extends JudgedPeer {
  readonly privateKey: string | null;
}

export interface PeerCommit {
  /** undefined for an owner's own call: only what is done to others is audited. */
  readonly source: AuditSource | undefined;
  readonly beforeCommit: (tx: Tx, created: CreatedPeer) => Promise<void>;
}

/**
 * Gives a user a device: keys, an address and the intent, in one transaction. The host follows; no call to it is made.
 * The same submitted key again answers the peer it made. On a host that makes the keys the peer has none yet: see
 * `awaitKeys`; until it has them, a repeat answers the same peer.
 * @throws DomainError `no_active_subscription`, `device_limit_reached`, `key_conflict`, `no_capacity`, `user_not_found`,
 * `server_not_found`, `client_key_required`, `client_keys_not_supported`, `not_allowed`
 */
export async function createPeer(deps: Deps, input: CreatePeer, commit: PeerCommit): Promise<CreatedPeer> {
  const submitted = readSubmittedKey(input.publicKey);
  try {
    return await deps.store.transaction(async (tx) => {
      const created = await findOrInsert(deps, tx, { input, submitted, now: deps.clock.now() });
      await commit.beforeCommit(tx, created);
      if (commit.source !== undefined) await auditCreation(tx, deps, commit.source, created.peer);
      return created;
    });
  } catch (error) {
    throw asKeyConflict(error);
  }
}

interface Creation {
  readonly input: CreatePeer;
  readonly submitted: PublicKey | null;
  readonly now: Instant;
}

async function findOrInsert(deps: Deps, tx: Tx, { input, submitted, now }: Creation): Promise<CreatedPeer> {
  const user = await lockUser(tx, input.userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  assertMayActFor(input.caller, user);
  const existing =
    submitted === null
      ? await findKeylessPeer(tx, user.id, input.deviceName ?? null)
      : await findPeerBySubmittedKey(tx, user.id, submitted);
  if (existing !== undefined) return { ...(await judgePeer(tx, existing, now)), privateKey: null };
  await assertRoomForDevice(tx, user.id, now);
  const { peer, privateKey } = await insertPlaced(deps, tx, { input, submitted, now });
  tx.onCommit(() => deps.reconciler.wake([peer.server_id]));
  return { ...(await judgePeer(tx, peer, now)), privateKey };
}

async function assertRoomForDevice(tx: Tx, userId: number, now: Instant): Promise<void> {
  const { status, current } = subscriptionAt(await loadChain(tx, userId), now);
  if (status !== 'active' && status !== 'grace') throw new DomainError('no_active_subscription');
  const limit = current?.device_limit ?? 0;
  if ((await countDevices(tx, userId)) >= limit) throw new DomainError('device_limit_reached');
}

async function insertPlaced(deps: Deps, tx: Tx, { input, submitted, now }: Creation) {
  const { server, index } = await placePeer(tx, input, now);
  const keys = chooseKeys(deps.config, server, submitted);
  if (keys.publicKey !== null) await assertKeyFree(tx, keys.publicKey);
  const peer = await insertPeer(tx, {
    user_id: input.userId,
    server_id: server.id,
    device_name: input.deviceName ?? null,
    key_origin: keys.origin,
    ...addressColumns(server, index),
    allowed_ips: server.client_allowed_ips,
    pending_since: now,
    created_at: now,
  });
  return { peer: await storeKeys(deps, tx, { peer, keys }), privateKey: keys.privateKey };
}

async function auditCreation(tx: Tx, { clock }: Deps, source: AuditSource, peer: PeerRow): Promise<void> {
  const details = { user_id: peer.user_id, server_id: peer.server_id };
  await audit(tx, { ...source, at: clock.now(), action: 'peer.create', target: `peer:${peer.id}`, details });
}

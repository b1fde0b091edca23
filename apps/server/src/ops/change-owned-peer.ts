import { findPeer, lockPeer, lockUser, type PeerRow, type Tx } from '@vpn-api/db';
import { type AccountActor, maySee } from '../api/actor.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { assertMayActFor } from './act-for-user.ts';
import { type AuditSource, audit } from './audit.ts';

export interface PeerRequest {
  readonly peerId: number;
  readonly caller: AccountActor;
  /** undefined for an owner's own call: only what is done to others is audited. */
  readonly source: AuditSource | undefined;
}

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

interface Change<T> {
  readonly action: string;
  readonly apply: (tx: Tx, peer: PeerRow) => Promise<T>;
}

/**
 * Changes one live peer under its owner's lock, audits what an operator does, and wakes the reconciler. Another's peer is
 * answered as if it did not exist.
 * @throws DomainError `peer_not_found`, `not_allowed`
 */
export async function changeOwnedPeer<T>(
  { store, clock, reconciler }: Deps,
  { peerId, caller, source }: PeerRequest,
  { action, apply }: Change<T>,
): Promise<T> {
  return store.transaction(async (tx) => {
    const peer = await lockOwnedPeer(tx, peerId, caller);
    const result = await apply(tx, peer);
    const row = { at: clock.now(), action, target: `peer:${peerId}`, details: { user_id: peer.user_id } };
    if (source !== undefined) await audit(tx, { ...source, ...row });
    tx.onCommit(() => reconciler.wake([peer.server_id]));
    return result;
  });
}

/** Its owner's row first, then its own. */
async function lockOwnedPeer(tx: Tx, peerId: number, caller: AccountActor): Promise<PeerRow> {
  const unlocked = await findPeer(tx, peerId);
  if (unlocked === undefined || !maySee(caller, unlocked.user_id)) throw new DomainError('peer_not_found');
  const owner = await lockUser(tx, unlocked.user_id);
  const peer = await lockPeer(tx, peerId);
  if (owner === undefined || peer === undefined || peer.removed_at !== null) throw new DomainError('peer_not_found');
  assertMayActFor(caller, owner);
  return peer;
}

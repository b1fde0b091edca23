import { changePeer as changePeerRow, findPeer, lockPeer, lockUser, type PeerPatch, type PeerRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';

export interface PeerRequest {
  readonly peerId: number;
  /** Whether the caller may see a peer of this owner; another's is answered as if it did not exist. */
  readonly maySee: (ownerId: number) => boolean;
  /** undefined for an owner's own call: only what is done to others is audited. */
  readonly source: AuditSource | undefined;
}

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

interface Change<T> {
  readonly action: string;
  readonly apply: (tx: Tx, peer: PeerRow) => Promise<T>;
}

/**
 * Changes one live peer under its owner's lock, audits what an operator does, and wakes the reconciler.
 * @throws DomainError `peer_not_found`
 */
export async function changePeer<T>(
  { store, clock, reconciler }: Deps,
  { peerId, maySee, source }: PeerRequest,
  { action, apply }: Change<T>,
): Promise<T> {
  return store.transaction(async (tx) => {
    const unlocked = await findPeer(tx, peerId);
    if (unlocked === undefined || !maySee(unlocked.user_id)) throw new DomainError('peer_not_found');
    await lockUser(tx, unlocked.user_id);
    const peer = await lockPeer(tx, peerId);
    if (peer === undefined || peer.removed_at !== null) throw new DomainError('peer_not_found');
    const result = await apply(tx, peer);
    const row = { at: clock.now(), action, target: `peer:${peerId}`, details: { user_id: peer.user_id } };
    if (source !== undefined) await audit(tx, { ...source, ...row });
    tx.onCommit(() => reconciler.wake());
    return result;
  });
}

/** A change that the host must see. */
export async function wantOnHost(tx: Tx, peer: PeerRow, patch: PeerPatch, now: string): Promise<PeerRow> {
  const changed = await changePeerRow(tx, peer.id, { ...patch, at: now });
  if (changed === undefined) throw new DomainError('peer_not_found');
  return changed;
}

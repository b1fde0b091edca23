import { findPeer, type PeerRow } from '@vpn-api/db';
import { DomainError } from '../../domain/errors.ts';
import type { PeerRequest } from '../../ops/change-owned-peer.ts';
import { type JudgedPeer, judgePeer } from '../../ops/peer-access.ts';
import { type AccountActor, maySee } from '../actor.ts';
import { auditOf } from '../audit-of.ts';
import type { Context } from '../context.ts';

type Calling = Context & { readonly caller: AccountActor };

/** @throws DomainError `peer_not_found`, also for another's peer, and for a removed one unless an operator asks */
export async function getVisiblePeer(ctx: Calling, peerId: number): Promise<JudgedPeer> {
  const { store, clock } = ctx.services;
  const peer = await findPeer(store, peerId);
  if (peer === undefined || !isVisible(ctx.caller, peer)) throw new DomainError('peer_not_found');
  return judgePeer(store, peer, clock.now());
}

function isVisible(caller: AccountActor, peer: PeerRow): boolean {
  return maySee(caller, peer.user_id) && (peer.removed_at === null || caller.kind !== 'user');
}

/** A change to a peer as the caller may ask for it. */
export function peerRequest(ctx: Calling, peerId: number): PeerRequest {
  return { peerId, caller: ctx.caller, source: ctx.caller.kind === 'user' ? undefined : auditOf(ctx) };
}

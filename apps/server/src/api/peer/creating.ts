import type { Tx } from '@vpn-api/db';
import type { z } from 'zod';
import { awaitKeys } from '../../ops/await-keys.ts';
import type { CreatedPeer } from '../../ops/create-peer.ts';
import { type Call, runOnce } from '../run-once.ts';
import type { peerSchema } from './schemas.ts';
import { createdPeerView } from './view.ts';

type Answer = z.output<typeof peerSchema>;

/** Of a peer whose keys the host still had to make when the call was committed. */
interface KeylessAnswer {
  readonly keyless_peer_id: number;
}

/**
 * Runs a call that makes or rekeys a peer. Where the host makes the keys the answer waits for them, and so does that of a
 * repeat with the same Idempotency-Key.
 * @throws DomainError `peer_pending`
 */
export function creatingPeer(
  call: Call,
  create: (beforeCommit: (tx: Tx, created: CreatedPeer) => Promise<void>) => Promise<CreatedPeer>,
): Promise<Answer> {
  const { services } = call.ctx;
  return runOnce<Answer, Answer | KeylessAnswer>(
    call,
    async (saveAnswer) => {
      const created = await create((tx, peer) => saveAnswer(tx, answerToKeep(peer)));
      return createdPeerView(hasKeys(created) ? created : await awaitKeys(services, created.peer.id));
    },
    async (stored) =>
      'keyless_peer_id' in stored ? createdPeerView(await awaitKeys(services, stored.keyless_peer_id)) : stored,
  );
}

function hasKeys({ peer }: CreatedPeer): boolean {
  return peer.public_key !== null;
}

function answerToKeep(created: CreatedPeer): Answer | KeylessAnswer {
  return hasKeys(created) ? createdPeerView(created) : { keyless_peer_id: created.peer.id };
}

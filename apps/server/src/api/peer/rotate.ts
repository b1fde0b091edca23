import { z } from 'zod';
import { rotatePeer } from '../../ops/rotate-peer.ts';
import { id } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { accountProcedure } from '../trpc.ts';
import { peerRequest } from './find-visible.ts';
import { newPeerFields, peerSchema } from './schemas.ts';
import { createdPeerView } from './view.ts';

export const rotatePeerProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/vpn_peers/{peer_id}/rotate',
      tags: ['peer'],
      summary: 'Give a device new keys',
      protect: true,
    },
    scope: 'peers:write',
    idempotent: true,
  })
  .input(z.strictObject({ peer_id: id, wg_public_key: newPeerFields.wg_public_key }))
  .output(peerSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'peer.rotate', input }, async (saveAnswer) => {
      const rotated = await rotatePeer(ctx.services, peerRequest(ctx, input.peer_id), {
        publicKey: input.wg_public_key,
        beforeCommit: (tx, peer) => saveAnswer(tx, createdPeerView(peer)),
      });
      return createdPeerView(rotated);
    }),
  );

import { z } from 'zod';
import { rotatePeer } from '../../ops/rotate-peer.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { creatingPeer } from './creating.ts';
import { peerRequest } from './find-visible.ts';
import { newPeerFields, peerSchema } from './schemas.ts';

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
    creatingPeer({ ctx, path: 'peer.rotate', input }, (beforeCommit) =>
      rotatePeer(ctx.services, peerRequest(ctx, input.peer_id), { publicKey: input.wg_public_key, beforeCommit }),
    ),
  );

import { z } from 'zod';
import { invalidField } from '../../domain/errors.ts';
import { movePeer } from '../../ops/move-peer.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { peerRequest } from './find-visible.ts';
import { newPeerFields, peerSchema } from './schemas.ts';
import { peerView } from './view.ts';

export const movePeerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/vpn_peers/{peer_id}/move',
      tags: ['peer'],
      summary: 'Put a device on another server; its client must fetch the config again',
      protect: true,
    },
    scope: 'peers:write',
  })
  .input(z.strictObject({ peer_id: id, server_id: newPeerFields.server_id, region: newPeerFields.region }))
  .output(peerSchema)
  .mutation(async ({ ctx, input }) => {
    if (input.server_id == null && input.region == null) throw invalidField('server_id', 'or a region is required');
    const target = { serverId: input.server_id, region: input.region };
    return peerView(await movePeer(ctx.services, peerRequest(ctx, input.peer_id), target));
  });

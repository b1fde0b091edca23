import { z } from 'zod';
import { removePeer } from '../../ops/remove-peer.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { peerRequest } from './find-visible.ts';

export const removePeerProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/vpn_peers/{peer_id}',
      tags: ['peer'],
      summary: 'Take a device away',
      protect: true,
    },
    scope: 'peers:write',
  })
  .input(z.strictObject({ peer_id: id }))
  .output(z.object({ msg: z.literal('deleted') }))
  .mutation(async ({ ctx, input }) => {
    await removePeer(ctx.services, peerRequest(ctx, input.peer_id));
    return { msg: 'deleted' as const };
  });

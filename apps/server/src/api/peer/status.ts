import { z } from 'zod';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePeer } from './find-visible.ts';
import { peerStatusSchema } from './schemas.ts';
import { peerStatusView } from './view.ts';

export const peerStatus = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/vpn_peers/{peer_id}/status',
      tags: ['peer'],
      summary: 'Whether a peer may connect, and what is true on its host',
      protect: true,
    },
    scope: 'peers:read',
  })
  .input(z.strictObject({ peer_id: id }))
  .output(peerStatusSchema)
  .query(async ({ ctx, input }) => peerStatusView(await getVisiblePeer(ctx, input.peer_id)));

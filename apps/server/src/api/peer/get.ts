import { z } from 'zod';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePeer } from './find-visible.ts';
import { peerSchema } from './schemas.ts';
import { peerView } from './view.ts';

export const getPeer = accountProcedure
  .meta({
    openapi: { method: 'GET', path: '/vpn_peers/{peer_id}', tags: ['peer'], summary: 'Read one peer', protect: true },
    scope: 'peers:read',
  })
  .input(z.strictObject({ peer_id: id }))
  .output(peerSchema)
  .query(async ({ ctx, input }) => peerView(await getVisiblePeer(ctx, input.peer_id)));

import { z } from 'zod';
import { activatePeer, deactivatePeer } from '../../ops/switch-peer.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { peerRequest } from './find-visible.ts';
import { peerSchema } from './schemas.ts';
import { peerView } from './view.ts';

const input = z.strictObject({ peer_id: id });

export const deactivatePeerProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/vpn_peers/{peer_id}/deactivate',
      tags: ['peer'],
      summary: 'Switch a device off',
      protect: true,
    },
    scope: 'peers:write',
  })
  .input(input)
  .output(peerSchema)
  .mutation(async ({ ctx, input }) => peerView(await deactivatePeer(ctx.services, peerRequest(ctx, input.peer_id))));

export const activatePeerProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/vpn_peers/{peer_id}/activate',
      tags: ['peer'],
      summary: 'Switch a device on again',
      protect: true,
    },
    scope: 'peers:write',
  })
  .input(input)
  .output(peerSchema)
  .mutation(async ({ ctx, input }) => peerView(await activatePeer(ctx.services, peerRequest(ctx, input.peer_id))));

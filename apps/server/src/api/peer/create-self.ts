import { z } from 'zod';
import { createPeer } from '../../ops/create-peer.ts';
import { userProcedure } from '../trpc.ts';
import { creatingPeer } from './creating.ts';
import { newPeerFields, peerSchema } from './schemas.ts';

export const createSelf = userProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/vpn_peers/self',
      tags: ['peer'],
      summary: 'Add a device of one’s own',
      protect: true,
    },
    idempotent: true,
    rest: { legacyKeys: ['user_id', 'wg_ip', 'allowed_ips'] },
  })
  .input(z.strictObject(newPeerFields))
  .output(peerSchema)
  .mutation(({ ctx, input }) =>
    creatingPeer({ ctx, path: 'peer.createSelf', input }, (beforeCommit) =>
      createPeer(
        ctx.services,
        {
          caller: ctx.caller,
          userId: ctx.caller.user.id,
          deviceName: input.device_name,
          publicKey: input.wg_public_key,
          serverId: input.server_id,
          region: input.region,
        },
        { source: undefined, beforeCommit },
      ),
    ),
  );

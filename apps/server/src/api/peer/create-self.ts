import { z } from 'zod';
import { createPeer } from '../../ops/create-peer.ts';
import { runOnce } from '../run-once.ts';
import { userProcedure } from '../trpc.ts';
import { newPeerFields, peerSchema } from './schemas.ts';
import { createdPeerView } from './view.ts';

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
    runOnce({ ctx, path: 'peer.createSelf', input }, async (saveAnswer) => {
      const created = await createPeer(
        ctx.services,
        {
          caller: ctx.caller,
          userId: ctx.caller.user.id,
          deviceName: input.device_name,
          publicKey: input.wg_public_key,
          serverId: input.server_id,
          region: input.region,
        },
        { source: undefined, beforeCommit: (tx, peer) => saveAnswer(tx, createdPeerView(peer)) },
      );
      return createdPeerView(created);
    }),
  );

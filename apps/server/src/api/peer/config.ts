import { z } from 'zod';
import { peerConfigText } from '../../ops/peer-config.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePeer } from './find-visible.ts';
import { configSchema } from './schemas.ts';

export const peerConfig = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/vpn_peers/{peer_id}/config',
      tags: ['peer'],
      summary: 'The wg-quick file of a peer',
      protect: true,
    },
    scope: 'peers:read',
    rest: { produces: 'wg-quick' },
  })
  .input(z.strictObject({ peer_id: id, template: z.boolean().default(false) }))
  .output(configSchema)
  .query(async ({ ctx, input }) => {
    const { peer } = await getVisiblePeer(ctx, input.peer_id);
    return { wg_quick: await peerConfigText(ctx.services, peer, { template: input.template }) };
  });

import { z } from 'zod';
import { selfConfigText } from '../../ops/self-config.ts';
import { userProcedure } from '../trpc.ts';
import { configSchema } from './schemas.ts';

/** The old app asks with GET, and with POST when that fails. */
export const selfConfig = userProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/vpn_peers/self/config',
      tags: ['peer'],
      summary: 'The wg-quick file of one’s newest active device',
      protect: true,
    },
    rest: { produces: 'wg-quick', aliases: [{ method: 'POST', path: '/vpn_peers/self/config' }] },
  })
  .input(z.strictObject({ template: z.boolean().default(false) }))
  .output(configSchema)
  .query(async ({ ctx, input }) => ({
    wg_quick: await selfConfigText(ctx.services, ctx.caller.user.id, { template: input.template }),
  }));

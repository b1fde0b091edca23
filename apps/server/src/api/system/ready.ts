import { z } from 'zod';
import { checkReadiness } from '../../ops/check-readiness.ts';
import { publicProcedure } from '../trpc.ts';

export const systemReady = publicProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/ready',
      tags: ['system'],
      summary: 'Tell whether the server can do its work; 503 names the part that cannot',
      protect: false,
    },
    rate: 'none',
  })
  .input(z.strictObject({}))
  .output(z.object({ status: z.literal('ready') }))
  .query(async ({ ctx }) => {
    await checkReadiness(ctx.services);
    return { status: 'ready' as const };
  });

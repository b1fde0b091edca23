import { z } from 'zod';
import { publicProcedure } from '../trpc.ts';

export const systemRoot = publicProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/',
      tags: ['system'],
      summary: 'Say that the API runs, and its version',
      protect: false,
    },
  })
  .input(z.strictObject({}))
  .output(z.object({ msg: z.literal('VPN API is running'), version: z.string() }))
  .query(({ ctx }) => ({ msg: 'VPN API is running' as const, version: ctx.services.version }));

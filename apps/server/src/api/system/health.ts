import { z } from 'zod';
import { publicProcedure } from '../trpc.ts';

/** Liveness: that the process answers. A failing database must not make an orchestrator restart the server. */
export const systemHealth = publicProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/health',
      tags: ['system'],
      summary: 'Tell whether the process is alive',
      protect: false,
    },
    rate: 'none',
  })
  .input(z.strictObject({}))
  .output(z.object({ status: z.literal('ok') }))
  .query(() => ({ status: 'ok' as const }));

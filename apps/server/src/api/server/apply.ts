import { z } from 'zod';
import { applyServer } from '../../ops/apply-server.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { answerServer } from './answer.ts';
import { serverSchema } from './schemas.ts';

export const applyServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/servers/{id}/apply',
      tags: ['server'],
      summary: 'Agree to the plan of a server: from now on its host is changed',
      protect: true,
    },
  })
  .input(
    z.strictObject({
      id,
      accept_removals: z
        .int()
        .min(0)
        .max(10_000_000)
        .default(0)
        .describe('`brake.removals` of the plan that was looked at; a plan that takes more is refused'),
    }),
  )
  .output(
    z.object({
      server: serverSchema,
      /** Of the pass that was made at once. `busy`: another one is still under way. */
      outcome: z.enum(['busy', 'waiting', 'planned', 'braked', 'applied', 'failed', 'stopped']),
      changes: z.int().describe('how many the plan had that was agreed to'),
    }),
  )
  .mutation(async ({ ctx, input }) => {
    const request = { id: input.id, acceptRemovals: input.accept_removals, source: auditOf(ctx) };
    const { server, ...applied } = await applyServer(ctx.services, request);
    return { server: await answerServer(ctx, server), ...applied };
  });

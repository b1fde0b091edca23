import { z } from 'zod';
import { removeServer } from '../../ops/remove-server.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';

export const removeServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/servers/{id}',
      tags: ['server'],
      summary: 'Forget a server without peers whose host owes no removal',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(z.object({ msg: z.literal('server deleted'), id }))
  .mutation(async ({ ctx, input }) => {
    await removeServer(ctx.services, { id: input.id, source: auditOf(ctx) });
    return { msg: 'server deleted' as const, id: input.id };
  });

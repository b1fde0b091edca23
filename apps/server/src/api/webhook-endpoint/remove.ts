import { z } from 'zod';
import { removeWebhookEndpoint } from '../../ops/webhook-endpoints.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';

export const removeWebhookEndpointProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/webhook_endpoints/{id}',
      tags: ['webhook endpoint'],
      summary: 'Send nothing more to an endpoint',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(z.object({ msg: z.literal('webhook endpoint deleted'), id }))
  .mutation(async ({ ctx, input }) => {
    await removeWebhookEndpoint(ctx.services, { id: input.id, source: auditOf(ctx) });
    return { msg: 'webhook endpoint deleted' as const, id: input.id };
  });

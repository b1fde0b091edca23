import { z } from 'zod';
import { redeliverWebhook } from '../../ops/webhook-endpoints.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { deliverySchema, deliveryView } from './schemas.ts';

export const redeliverProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/webhook_endpoints/{id}/deliveries/{delivery_id}/redeliver',
      tags: ['webhook endpoint'],
      summary: 'Send an event again, under the same webhook-id',
      protect: true,
    },
  })
  .input(z.strictObject({ id, delivery_id: id }))
  .output(deliverySchema)
  .mutation(async ({ ctx, input }) => {
    const which = { id: input.id, deliveryId: input.delivery_id, source: auditOf(ctx) };
    return deliveryView(await redeliverWebhook(ctx.services, which));
  });

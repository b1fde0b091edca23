import { countWebhookDeliveries, findWebhookEndpoint, listWebhookDeliveries } from '@vpn-api/db';
import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { id, page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { deliverySchema, deliveryView } from './schemas.ts';

export const listDeliveriesProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/webhook_endpoints/{id}/deliveries',
      tags: ['webhook endpoint'],
      summary: 'What was sent to an endpoint, and what came of it',
      protect: true,
    },
  })
  .input(z.strictObject({ ...page, id, status: z.enum(['pending', 'delivered', 'dead']).optional() }))
  .output(z.array(deliverySchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    if ((await findWebhookEndpoint(store, input.id)) === undefined) throw new DomainError('webhook_endpoint_not_found');
    const filter = { endpointId: input.id, status: input.status };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countWebhookDeliveries(store, filter)));
    const bounds = { skip: input.skip, limit: input.limit, afterId: input.after_id };
    return (await listWebhookDeliveries(store, filter, bounds)).map(deliveryView);
  });

import { countWebhookEndpoints, listWebhookEndpoints } from '@vpn-api/db';
import { z } from 'zod';
import { page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { endpointView, webhookEndpointSchema } from './schemas.ts';

export const listWebhookEndpointsProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/webhook_endpoints',
      tags: ['webhook endpoint'],
      summary: 'List webhook endpoints',
      protect: true,
    },
  })
  .input(z.strictObject({ ...page }))
  .output(z.array(webhookEndpointSchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countWebhookEndpoints(store)));
    const bounds = { skip: input.skip, limit: input.limit, afterId: input.after_id };
    return (await listWebhookEndpoints(store, bounds)).map(endpointView);
  });

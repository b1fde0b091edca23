import { findWebhookEndpoint } from '@vpn-api/db';
import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { endpointView, webhookEndpointSchema } from './schemas.ts';

export const getWebhookEndpointProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/webhook_endpoints/{id}',
      tags: ['webhook endpoint'],
      summary: 'Get a webhook endpoint',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(webhookEndpointSchema)
  .query(async ({ ctx, input }) => {
    const row = await findWebhookEndpoint(ctx.services.store, input.id);
    if (row === undefined) throw new DomainError('webhook_endpoint_not_found');
    return endpointView(row);
  });

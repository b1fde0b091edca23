import { z } from 'zod';
import { updateWebhookEndpointBy } from '../../ops/webhook-endpoints.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { endpointDescription, endpointTypes, endpointUrl, endpointView, webhookEndpointSchema } from './schemas.ts';

export const updateWebhookEndpointProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/webhook_endpoints/{id}',
      tags: ['webhook endpoint'],
      summary: 'Change a webhook endpoint; `disabled: false` lets one go on that answered 410',
      protect: true,
    },
  })
  .input(
    z.strictObject({
      id,
      url: endpointUrl.optional(),
      description: endpointDescription.nullish(),
      types: endpointTypes.nullish().describe('null means all'),
      disabled: z.boolean().optional(),
    }),
  )
  .output(webhookEndpointSchema)
  .mutation(async ({ ctx, input: { id: endpointId, ...change } }) =>
    endpointView(await updateWebhookEndpointBy(ctx.services, { id: endpointId, source: auditOf(ctx), change })),
  );

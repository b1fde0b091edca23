import { z } from 'zod';
import { createWebhookEndpoint, type EndpointWithSecret } from '../../ops/webhook-endpoints.ts';
import { auditOf } from '../audit-of.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import {
  endpointDescription,
  endpointTypes,
  endpointUrl,
  endpointView,
  webhookEndpointWithSecretSchema,
} from './schemas.ts';

export const createWebhookEndpointProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/webhook_endpoints',
      tags: ['webhook endpoint'],
      summary: 'Send events to a URL from now on; its signing secret is shown this once',
      protect: true,
    },
    idempotent: true,
  })
  .input(
    z.strictObject({
      url: endpointUrl,
      description: endpointDescription.nullish(),
      types: endpointTypes.nullish().describe('which events; absent means all'),
    }),
  )
  .output(webhookEndpointWithSecretSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'webhookEndpoint.create', input }, async (saveAnswer) => {
      const { url, description = null, types = null } = input;
      const created = await createWebhookEndpoint(
        ctx.services,
        { url, description, types },
        { source: auditOf(ctx), beforeCommit: (tx, made) => saveAnswer(tx, withSecret(made)) },
      );
      return withSecret(created);
    }),
  );

export function withSecret({ row, secret }: EndpointWithSecret): z.output<typeof webhookEndpointWithSecretSchema> {
  return { ...endpointView(row), secret };
}

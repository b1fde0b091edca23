import { z } from 'zod';
import { rotateWebhookSecret } from '../../ops/webhook-endpoints.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { withSecret } from './create.ts';
import { webhookEndpointWithSecretSchema } from './schemas.ts';

export const rotateSecretProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/webhook_endpoints/{id}/rotate_secret',
      tags: ['webhook endpoint'],
      summary: 'Make a new signing secret; the last one signs beside it for 24 hours',
      protect: true,
    },
    idempotent: true,
  })
  .input(z.strictObject({ id }))
  .output(webhookEndpointWithSecretSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'webhookEndpoint.rotateSecret', input }, async (saveAnswer) => {
      const endpoint = { id: input.id, source: auditOf(ctx) };
      return withSecret(
        await rotateWebhookSecret(ctx.services, endpoint, (tx, made) => saveAnswer(tx, withSecret(made))),
      );
    }),
  );

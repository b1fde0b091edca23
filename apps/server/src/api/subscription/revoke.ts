import { z } from 'zod';
import { subscriptionView } from '../../domain/subscription.ts';
import { revokePeriod } from '../../ops/revoke-period.ts';
import { auditOf } from '../audit-of.ts';
import { id, name } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { subscriptionSchema } from './schemas.ts';

export const revokeSubscription = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/subscriptions/revoke',
      tags: ['subscription'],
      summary: 'Take back what is left of a period',
      protect: true,
    },
  })
  .input(z.strictObject({ period_id: id, reason: name(500) }))
  .output(subscriptionSchema.nullable())
  .mutation(async ({ ctx, input }) => {
    const chain = await revokePeriod(ctx.services, {
      periodId: input.period_id,
      reason: input.reason,
      source: auditOf(ctx),
    });
    return subscriptionView(chain, ctx.services.clock.now());
  });

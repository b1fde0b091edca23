import { z } from 'zod';
import { extendSubscription } from '../../ops/extend-subscription.ts';
import { auditOf } from '../audit-of.ts';
import { id, name } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';

export const extendSubscriptionProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/subscriptions/extend',
      tags: ['subscription'],
      summary: 'Compensate a user, or everybody on a server, with further days',
      protect: true,
    },
    idempotent: true,
  })
  .input(
    z.strictObject({
      user_id: id.optional(),
      server_id: id.optional(),
      days: z.int().min(1).max(3650),
      reason: name(500),
    }),
  )
  .output(z.object({ msg: z.literal('subscription extended'), users: z.int() }))
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'subscription.extend', input }, async () => {
      const users = await extendSubscription(ctx.services, {
        userId: input.user_id,
        serverId: input.server_id,
        days: input.days,
        reason: input.reason,
        source: auditOf(ctx),
      });
      return { msg: 'subscription extended' as const, users };
    }),
  );

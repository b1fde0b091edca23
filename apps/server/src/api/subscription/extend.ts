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
      user_id: id.nullish(),
      server_id: id.nullish(),
      days: z.int().min(1).max(3650),
      reason: name(500),
    }),
  )
  .output(z.object({ msg: z.literal('subscription extended'), users: z.int() }))
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'subscription.extend', input }, async (saveAnswer) => {
      const { user_id, server_id, days, reason } = input;
      const users = await extendSubscription(
        ctx.services,
        { userId: user_id ?? undefined, serverId: server_id ?? undefined, days, reason },
        { source: auditOf(ctx), beforeCommit: (tx, extended) => saveAnswer(tx, extensionView(extended)) },
      );
      return extensionView(users);
    }),
  );

function extensionView(users: number) {
  return { msg: 'subscription extended' as const, users };
}

import { z } from 'zod';
import { subscriptionView } from '../../domain/subscription.ts';
import { getUserToActFor } from '../../ops/act-for-user.ts';
import { grantSubscription } from '../../ops/grant-subscription.ts';
import { auditOf } from '../audit-of.ts';
import { id, text } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { subscriptionSchema } from './schemas.ts';

export const grantSubscriptionProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/subscriptions/grant',
      tags: ['subscription'],
      summary: 'Give a user a tariff without a payment',
      protect: true,
    },
    scope: 'subscriptions:write',
    idempotent: true,
  })
  .input(z.strictObject({ user_id: id, tariff_id: id, reason: text(500).nullish() }))
  .output(subscriptionSchema.nullable())
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'subscription.grant', input }, async (saveAnswer) => {
      await getUserToActFor(ctx.services.store, ctx.caller, input.user_id);
      const granted = await grantSubscription(
        ctx.services,
        { userId: input.user_id, tariffId: input.tariff_id, reason: input.reason ?? undefined },
        { source: auditOf(ctx), beforeCommit: (tx, { chain, at }) => saveAnswer(tx, subscriptionView(chain, at)) },
      );
      return subscriptionView(granted.chain, granted.at);
    }),
  );

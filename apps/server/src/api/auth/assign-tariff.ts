import { z } from 'zod';
import { subscriptionView } from '../../domain/subscription.ts';
import { getUserToActFor } from '../../ops/act-for-user.ts';
import { type Granted, grantSubscription } from '../../ops/grant-subscription.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { subscriptionSchema } from '../subscription/schemas.ts';
import { adminProcedure } from '../trpc.ts';

export const assignTariff = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/assign_tariff',
      tags: ['auth'],
      summary: 'Give a user a tariff without a payment',
      protect: true,
    },
    scope: 'subscriptions:write',
    idempotent: true,
    rest: { query: ['user_id', 'tariff_id'] },
  })
  .input(z.strictObject({ user_id: id, tariff_id: id }))
  .output(
    z.object({
      msg: z.literal('tariff assigned'),
      user_id: id,
      tariff_id: id,
      subscription: subscriptionSchema.nullable(),
    }),
  )
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'auth.assignTariff', input }, async (saveAnswer) => {
      const answer = ({ chain, at }: Granted) => ({
        msg: 'tariff assigned' as const,
        ...input,
        subscription: subscriptionView(chain, at),
      });
      await getUserToActFor(ctx.services.store, ctx.caller, input.user_id);
      const granted = await grantSubscription(
        ctx.services,
        { userId: input.user_id, tariffId: input.tariff_id },
        { source: auditOf(ctx), beforeCommit: (tx, made) => saveAnswer(tx, answer(made)) },
      );
      return answer(granted);
    }),
  );

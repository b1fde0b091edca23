import { z } from 'zod';
import { subscriptionView } from '../../domain/subscription.ts';
import { startTrial } from '../../ops/start-trial.ts';
import { auditOf } from '../audit-of.ts';
import { customerId } from '../customer-id.ts';
import { id } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { accountProcedure } from '../trpc.ts';
import { subscriptionSchema } from './schemas.ts';

export const startTrialProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/subscriptions/trial',
      tags: ['subscription'],
      summary: 'Start the trial: once per user and per Telegram id',
      protect: true,
    },
    scope: 'subscriptions:write',
    idempotent: true,
  })
  .input(z.strictObject({ tariff_id: id.nullish(), user_id: id.nullish() }))
  .output(subscriptionSchema.nullable())
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'subscription.startTrial', input }, async (saveAnswer) => {
      const granted = await startTrial(
        ctx.services,
        { caller: ctx.caller, userId: customerId(ctx.caller, input.user_id), tariffId: input.tariff_id ?? undefined },
        { source: auditOf(ctx), beforeCommit: (tx, { chain, at }) => saveAnswer(tx, subscriptionView(chain, at)) },
      );
      return subscriptionView(granted.chain, granted.at);
    }),
  );

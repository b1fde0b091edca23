import { z } from 'zod';
import type { Granted } from '../../ops/grant-subscription.ts';
import { selfSubscribe } from '../../ops/self-subscribe.ts';
import { auditOf } from '../audit-of.ts';
import { id, instant } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { userProcedure } from '../trpc.ts';

const subscribed = z.object({
  msg: z.literal('subscription activated'),
  user_tariff_id: id,
  tariff_id: id,
  started_at: instant,
  ended_at: instant.nullable(),
});

export const subscribe = userProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/subscribe',
      tags: ['auth'],
      summary: 'Take a tariff without paying; only where the operator allows it for a demo',
      protect: true,
    },
    idempotent: true,
  })
  .input(z.strictObject({ tariff_id: id }))
  .output(subscribed)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'auth.subscribe', input }, async (saveAnswer) => {
      const order = { userId: ctx.caller.user.id, tariffId: input.tariff_id };
      const granted = await selfSubscribe(ctx.services, order, {
        source: auditOf(ctx),
        beforeCommit: (tx, made) => saveAnswer(tx, answer(made, input.tariff_id)),
      });
      return answer(granted, input.tariff_id);
    }),
  );

function answer({ period }: Granted, tariffId: number): z.output<typeof subscribed> {
  return {
    msg: 'subscription activated',
    user_tariff_id: period.id,
    tariff_id: tariffId,
    started_at: period.starts_at,
    ended_at: period.ends_at,
  };
}

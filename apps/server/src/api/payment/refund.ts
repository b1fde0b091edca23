import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { outcomeOfRefund, refundPayment } from '../../ops/refund-payment.ts';
import { auditOf } from '../audit-of.ts';
import { amount, id, name } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { paymentSchema } from './schemas.ts';
import { paymentView } from './view.ts';

export const refundPaymentProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/payments/{payment_id}/refund',
      tags: ['payment'],
      summary: 'Pay back, all of it or a part; or record what was paid back outside',
      protect: true,
    },
    idempotent: true,
  })
  .input(
    z.strictObject({
      payment_id: id,
      amount: amount.nullish().describe('without it, all that is left'),
      reason: name(500),
      external: z.boolean().optional().describe('done outside the provider, only recorded'),
    }),
  )
  .output(paymentSchema)
  .mutation(({ ctx, input }) =>
    runOnce(
      { ctx, path: 'payment.refund', input },
      async (saveAnswer) => {
        if (ctx.caller.kind === 'service') throw new DomainError('not_allowed');
        const { payment_id: paymentId, reason, external: isExternal = false } = input;
        const refund = { paymentId, amount: input.amount, reason, isExternal };
        const payment = await refundPayment(ctx.services, refund, {
          source: auditOf(ctx),
          beforeCommit: (tx, row) => saveAnswer(tx, row.id),
        });
        return paymentView(payment, ctx.services.providers);
      },
      async (refundId: number) =>
        paymentView(await outcomeOfRefund(ctx.services.store, refundId), ctx.services.providers),
    ),
  );

import { z } from 'zod';
import { resolvePayment } from '../../ops/resolve-payment.ts';
import { auditOf } from '../audit-of.ts';
import { id, text } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { paymentSchema } from './schemas.ts';
import { paymentView } from './view.ts';

export const resolvePaymentProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/payments/{payment_id}/resolve',
      tags: ['payment'],
      summary: 'Decide a payment that waits for a person',
      protect: true,
    },
  })
  .input(z.strictObject({ payment_id: id, action: z.enum(['accept', 'reject']), note: text(1000).optional() }))
  .output(paymentSchema)
  .mutation(async ({ ctx, input }) => {
    const payment = await resolvePayment(ctx.services, {
      paymentId: input.payment_id,
      action: input.action,
      note: input.note,
      source: auditOf(ctx),
    });
    return paymentView(payment, ctx.services.providers);
  });

import { z } from 'zod';
import { hastenLookedAt } from '../../ops/hasten-poll.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePayment } from './find-visible.ts';
import { paymentSchema } from './schemas.ts';
import { paymentView } from './view.ts';

export const getPayment = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/payments/{payment_id}',
      tags: ['payment'],
      summary: 'Read one payment',
      protect: true,
    },
    scope: 'payments:read',
  })
  .input(z.strictObject({ payment_id: id }))
  .output(paymentSchema)
  .query(async ({ ctx, input }) => {
    const payment = await getVisiblePayment(ctx.services.store, ctx.caller, input.payment_id);
    await hastenLookedAt(ctx.services, payment);
    return paymentView(payment, ctx.services.providers);
  });

import { z } from 'zod';
import { createPayment } from '../../ops/create-payment.ts';
import { auditOf } from '../audit-of.ts';
import { amount, currency, id, token } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { accountProcedure } from '../trpc.ts';
import { paymentSchema } from './schemas.ts';
import { paymentView } from './view.ts';

export const createPaymentProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/payments/create',
      tags: ['payment'],
      summary: 'Open a payment for a tariff',
      protect: true,
    },
    scope: 'payments:write',
    idempotent: true,
    rest: { aliases: [{ method: 'POST', path: '/payments' }], legacyKeys: ['status'] },
  })
  .input(
    z.strictObject({
      tariff_id: id.nullish(),
      provider: token(64).nullish(),
      currency: currency.nullish(),
      amount: amount.nullish(),
      // Normalised, so that what is stored has no character that a database refuses.
      return_url: z
        .url({ protocol: /^https?$/, normalize: true })
        .max(2000)
        .nullish(),
      apply: z.enum(['extend']).nullish(),
      user_id: id.nullish(),
      provider_payment_id: token(255).nullish(),
    }),
  )
  .output(paymentSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'payment.create', input }, async (saveAnswer) => {
      const { providers } = ctx.services;
      const payment = await createPayment(
        ctx.services,
        { caller: ctx.caller, ...input },
        {
          source: auditOf(ctx),
          beforeCommit: (tx, row) => saveAnswer(tx, paymentView(row, providers)),
        },
      );
      return paymentView(payment, providers);
    }),
  );

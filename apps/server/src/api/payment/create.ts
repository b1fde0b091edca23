import type { PaymentRow, Tx } from '@vpn-api/db';
import { z } from 'zod';
import { createPayment } from '../../ops/create-payment.ts';
import { reopenCheckout } from '../../ops/open-checkout.ts';
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
      apply: z.enum(['now', 'extend']).nullish(),
      user_id: id.nullish(),
      provider_payment_id: token(255).nullish(),
    }),
  )
  .output(paymentSchema)
  .mutation(({ ctx, input }) =>
    runOnce<Answer, Stored>(
      { ctx, path: 'payment.create', input },
      async (saveAnswer) => {
        const source = auditOf(ctx);
        // Stored with the payment and before its provider is asked: a repeat goes on from there.
        const beforeCommit = (tx: Tx, { id }: PaymentRow) => saveAnswer(tx, { payment_id: id });
        const payment = await createPayment(ctx.services, { caller: ctx.caller, ...input }, { source, beforeCommit });
        return paymentView(payment, ctx.services.providers);
      },
      async ({ payment_id }) => paymentView(await reopenCheckout(ctx.services, payment_id), ctx.services.providers),
    ),
  );

type Answer = z.output<typeof paymentSchema>;
type Stored = Readonly<{ payment_id: number }>;

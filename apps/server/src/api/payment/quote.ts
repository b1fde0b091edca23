import { z } from 'zod';
import { formatAmount } from '../../domain/money.ts';
import { type Preview, previewPayment } from '../../ops/preview-payment.ts';
import { customerId } from '../customer-id.ts';
import { currency, id, instant, token } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';

const apply = z.enum(['now', 'extend']);

const quoteSchema = z.object({
  amount: z.string(),
  currency: z.string(),
  provider: z.string(),
  apply: apply.describe('What will happen: `now` starts at once, `extend` follows what is there'),
  starts_at: instant,
  ends_at: instant.nullable().describe('null for a lifetime'),
  periods: z
    .array(
      z.object({
        tariff_id: id.nullable(),
        tariff_name: z.string(),
        starts_at: instant,
        ends_at: instant.nullable(),
        source: z.enum(['payment', 'admin', 'trial', 'import']),
        is_new: z.boolean().describe('True for the period that the payment would buy'),
      }),
    )
    .describe('The subscription from now on, as it would be'),
});

export const quotePaymentProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/payments/quote',
      tags: ['payment'],
      summary: 'What a payment would cost, and what it would make of the subscription',
      protect: true,
    },
    scope: 'payments:read',
  })
  .input(
    z.strictObject({
      tariff_id: id,
      currency: currency.optional(),
      provider: token(64).optional(),
      apply: apply.optional(),
      user_id: id.optional(),
    }),
  )
  .output(quoteSchema)
  .query(async ({ ctx, input: { user_id, ...wanted } }) => {
    const userId = customerId(ctx.caller, user_id);
    return quoteView(await previewPayment(ctx.services, { caller: ctx.caller, ...wanted, userId }));
  });

function quoteView({ quote, apply: effect, period, chain }: Preview): z.output<typeof quoteSchema> {
  return {
    amount: formatAmount(quote.amountMinor, quote.currency),
    currency: quote.currency,
    provider: quote.provider,
    apply: effect,
    starts_at: period.starts_at,
    ends_at: period.ends_at,
    periods: chain.map(({ tariff_id, tariff_name, starts_at, ends_at, source, seq }) => ({
      tariff_id,
      tariff_name,
      starts_at,
      ends_at,
      source,
      is_new: seq === period.seq,
    })),
  };
}

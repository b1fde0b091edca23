import { z } from 'zod';
import { currency, id, instant } from '../fields.ts';

export const paymentStatus = z.enum([
  'pending',
  'completed',
  'failed',
  'refunded',
  'partially_refunded',
  'needs_review',
]);

/** How to pay: a page to open, a Telegram invoice to send, or a text to show. */
export const checkoutSchema = z.union([
  z.object({ type: z.literal('redirect'), url: z.string() }),
  z.object({
    type: z.literal('telegram_invoice'),
    link: z.string(),
    payload: z.string(),
    title: z.string(),
    amount: z.int(),
    currency: z.string(),
  }),
  z.object({ type: z.literal('manual'), instructions: z.string() }),
]);

const paymentShape = {
  id,
  reference: z.string(),
  parent_id: id.nullable(),
  user_id: id,
  tariff_id: id,
  amount: z.string(),
  currency: z.string(),
  status: paymentStatus,
  refunded_amount: z.string(),
  review_reason: z.string().nullable(),
  disputed_at: instant.nullable().describe('While a dispute is open, what the payment bought gives no access'),
  provider: z.string(),
  provider_payment_id: z.string().nullable(),
  created_at: instant,
  completed_at: instant.nullable(),
  checkout: checkoutSchema.nullable(),
} as const;

/** `Payment` on the wire. `checkout` is null when the payment starts in the sender's own shop, and once it is decided. */
export const paymentSchema = z.object(paymentShape);

export { paymentShape };

export const eventOutcome = z.enum(['settled', 'duplicate', 'ignored', 'held', 'parked']);

/** One delivery in the inbox. The raw body stays in the database: it may carry personal data of the payer. */
export const paymentEventSchema = z.object({
  id,
  provider: z.string(),
  type: z.string(),
  reference: z.string().nullable(),
  provider_payment_id: z.string().nullable(),
  amount: z.string().nullable(),
  currency: z.string().nullable(),
  outcome: eventOutcome,
  reason: z.string().nullable(),
  payment_id: id.nullable(),
  received_at: instant,
  processed_at: instant.nullable(),
});

export const providerSchema = z.object({
  name: z.string(),
  currencies: z.array(currency),
  checkout: z.enum(['redirect', 'telegram_invoice', 'manual', 'external']),
});

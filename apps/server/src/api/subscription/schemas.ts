import { z } from 'zod';
import { id, instant } from '../fields.ts';

const periodSchema = z.object({
  id,
  tariff_id: id.nullable(),
  starts_at: instant,
  ends_at: instant.nullable(),
  source: z.enum(['payment', 'admin', 'trial', 'import']),
  payment_id: id.nullable(),
  revoked_at: instant.nullable(),
});

export const subscriptionStatus = z.enum(['active', 'grace', 'expired', 'revoked']);

/** `Subscription` on the wire: the view of a user's chain of periods. */
export const subscriptionSchema = z.object({
  id,
  user_id: id,
  tariff_id: id.nullable(),
  tariff_name: z.string(),
  status: subscriptionStatus,
  duration_days: z.int().nullable(),
  price: z.string(),
  currency: z.string(),
  started_at: instant,
  ended_at: instant.nullable(),
  days_remaining: z.int().nullable(),
  is_lifetime: z.boolean(),
  periods: z.array(periodSchema),
});

import { z } from 'zod';
import { amount, currency, id, instant, name, text, token } from '../fields.ts';

/** `Tariff` on the wire. */
export const tariffSchema = z.object({
  id,
  name: z.string(),
  description: z.string().nullable(),
  duration_days: z.int().nullable(),
  price: z.string(),
  currency: z.string(),
  prices: z.array(z.object({ currency: z.string(), amount: z.string(), providers: z.array(z.string()).optional() })),
  device_limit: z.int(),
  traffic_limit_bytes: z.int().nullable(),
  trial: z.boolean(),
  grace_days: z.int(),
  archived: z.boolean(),
  created_at: instant,
});

const price = z.strictObject({ currency, amount, providers: z.array(token(64)).min(1).max(20).optional() });

/** Longest sensible period: a hundred years. Longer is a lifetime, which is `null`. */
const MAX_DAYS = 36_500;

export const tariffFields = {
  name: name(100),
  description: text(2000).nullable(),
  duration_days: z.int().min(1).max(MAX_DAYS).nullable(),
  price: amount,
  currency,
  prices: z.array(price).min(1).max(20),
  device_limit: z.int().min(1).max(1000),
  traffic_limit_bytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).nullable(),
  trial: z.boolean(),
  grace_days: z.int().min(0).max(365),
} as const;

export const tariffId = z.strictObject({ tariff_id: id });
export const removedTariff = z.object({ msg: z.literal('tariff deleted'), tariff_id: id });

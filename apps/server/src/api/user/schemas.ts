import { z } from 'zod';
import { id, instant } from '../fields.ts';

export const userStatus = z.enum(['pending', 'active', 'blocked']);

/** `User` on the wire. */
export const userSchema = z.object({
  id,
  email: z.string().nullable(),
  status: userStatus,
  is_admin: z.boolean(),
  email_verified: z.boolean(),
  telegram_id: z.int().nullable(),
  created_at: instant,
});

export const userId = z.strictObject({ id });

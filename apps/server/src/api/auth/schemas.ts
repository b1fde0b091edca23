import { z } from 'zod';
import { id, instant } from '../fields.ts';

/** `Tokens` on the wire; both durations in seconds. */
export const tokensSchema = z.object({
  access_token: z.string(),
  token_type: z.literal('bearer'),
  expires_in: z.int(),
  refresh_token: z.string(),
  refresh_expires_in: z.int(),
});

/** A login as its owner sees it. `current` is the one that asks. */
export const sessionSchema = z.object({
  id,
  created_at: instant,
  refreshed_at: instant,
  expires_at: instant,
  user_agent: z.string().nullable(),
  ip: z.string().nullable(),
  current: z.boolean(),
});

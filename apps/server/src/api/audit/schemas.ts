import { z } from 'zod';
import { id, instant } from '../fields.ts';

/** One act on the record: who did what to which row, and from where. */
export const auditSchema = z.object({
  id,
  at: instant,
  actor: z.string(),
  action: z.string(),
  target: z.string().nullable(),
  ip: z.string().nullable(),
  request_id: z.string().nullable(),
  details: z.record(z.string(), z.unknown()),
});

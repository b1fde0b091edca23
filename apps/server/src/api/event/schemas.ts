import { z } from 'zod';
import { eventTypes } from '../../domain/events.ts';
import { id, instant } from '../fields.ts';

export const eventType = z.enum(eventTypes);

/** An outgoing event; `id` is its place in the one order that every reader sees. */
export const eventSchema = z.object({
  id,
  type: eventType,
  timestamp: instant,
  data: z.record(z.string(), z.unknown()),
});

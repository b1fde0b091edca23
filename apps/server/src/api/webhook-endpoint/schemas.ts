import type { LoggedDelivery, WebhookEndpointRow } from '@vpn-api/db';
import { z } from 'zod';
import type { EventType } from '../../domain/events.ts';
import { eventType } from '../event/schemas.ts';
import { id, instant, text } from '../fields.ts';

/** Checked further by `ops/webhook-endpoints.ts`: scheme, credentials, address. */
export const endpointUrl = z.string().min(1).max(2_000);
export const endpointTypes = z.array(eventType).min(1).max(50);
export const endpointDescription = text(200);

const endpointShape = {
  id,
  url: z.string(),
  description: z.string().nullable(),
  /** null: every type. */
  types: z.array(eventType).nullable(),
  /** The first failed attempt since it last took an event; null while it works. */
  failing_since: instant.nullable(),
  disabled_at: instant.nullable(),
  disabled_reason: z.string().nullable(),
  created_at: instant,
} as const;

/** `WebhookEndpoint` on the wire. */
export const webhookEndpointSchema = z.object(endpointShape);

/** The answers that show the secret: of creating and of rotating. */
export const webhookEndpointWithSecretSchema = z.object({ ...endpointShape, secret: z.string() });

/** One event for one endpoint. `dead`: given up after a day, waits for a redelivery by hand. */
export const deliverySchema = z.object({
  id,
  event_id: id.describe('as in `GET /events`, and the number in the `webhook-id`'),
  type: eventType,
  status: z.enum(['pending', 'delivered', 'dead']),
  attempts: z.int(),
  last_status: z.int().nullable(),
  last_error: z.string().nullable(),
  next_attempt_at: instant.nullable(),
  delivered_at: instant.nullable(),
  created_at: instant,
});

export function endpointView(row: WebhookEndpointRow): z.output<typeof webhookEndpointSchema> {
  const { id: rowId, url, description, failing_since, disabled_at, disabled_reason, created_at } = row;
  const types = row.types === null ? null : [...(row.types as readonly EventType[])];
  return { id: rowId, url, description, types, failing_since, disabled_at, disabled_reason, created_at };
}

export function deliveryView(row: LoggedDelivery): z.output<typeof deliverySchema> {
  const { id: rowId, position, type, status, attempts, last_status, last_error } = row;
  const { next_attempt_at, delivered_at, created_at } = row;
  const event = { event_id: position, type: type as EventType };
  const outcome = { status, attempts, last_status, last_error, next_attempt_at, delivered_at, created_at };
  return { id: rowId, ...event, ...outcome };
}

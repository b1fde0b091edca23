import { countPublishedEvents, listPublishedEvents, type PublishedEvent } from '@vpn-api/db';
import { z } from 'zod';
import type { EventType } from '../../domain/events.ts';
import { id, page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { eventSchema, eventType } from './schemas.ts';

export const listEventsProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/events',
      tags: ['event'],
      summary: 'Outgoing events, for bots that cannot receive webhooks: page by after_id and miss none',
      protect: true,
    },
    scope: 'events:read',
  })
  .input(z.strictObject({ ...page, type: eventType.optional(), user_id: id.optional() }))
  .output(z.array(eventSchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    const filter = { type: input.type, userId: input.user_id };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countPublishedEvents(store, filter)));
    const bounds = { after: input.after_id, skip: input.skip, limit: input.limit };
    return (await listPublishedEvents(store, filter, bounds)).map(eventView);
  });

function eventView({ position, type, created_at, payload }: PublishedEvent): z.output<typeof eventSchema> {
  const data = JSON.parse(payload) as Record<string, unknown>;
  return { id: position, type: type as EventType, timestamp: created_at, data };
}

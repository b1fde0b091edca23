import { countEvents, listEvents } from '@vpn-api/db';
import { z } from 'zod';
import { page, token } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { eventOutcome, paymentEventSchema } from './schemas.ts';
import { paymentEventView } from './view.ts';

export const listPaymentEvents = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/payments/events',
      tags: ['payment'],
      summary: 'The inbox: parked events wait for their payment, held ones for a person',
      protect: true,
    },
  })
  .input(z.strictObject({ ...page, outcome: eventOutcome.optional(), provider: token(64).optional() }))
  .output(z.array(paymentEventSchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    const filter = { outcome: input.outcome, provider: input.provider };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countEvents(store, filter)));
    const rows = await listEvents(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map(paymentEventView);
  });

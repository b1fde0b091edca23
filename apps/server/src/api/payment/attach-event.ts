import { z } from 'zod';
import { attachEvent } from '../../ops/attach-event.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { paymentEventSchema } from './schemas.ts';
import { paymentEventView } from './view.ts';

export const attachEventProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/payments/events/{id}/attach',
      tags: ['payment'],
      summary: 'Name the payment that a held or parked event belongs to',
      protect: true,
    },
  })
  .input(z.strictObject({ id, payment_id: id }))
  .output(paymentEventSchema)
  .mutation(async ({ ctx, input }) =>
    paymentEventView(
      await attachEvent(ctx.services, { eventId: input.id, paymentId: input.payment_id, source: auditOf(ctx) }),
    ),
  );

import { countPayments, listPayments } from '@vpn-api/db';
import { z } from 'zod';
import { ownerFor } from '../actor.ts';
import { id, instant, page, token } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { paymentSchema, paymentStatus } from './schemas.ts';
import { paymentView } from './view.ts';

export const listPaymentsProcedure = accountProcedure
  .meta({
    openapi: { method: 'GET', path: '/payments', tags: ['payment'], summary: 'List payments', protect: true },
    scope: 'payments:read',
  })
  .input(
    z.strictObject({
      ...page,
      user_id: id.optional(),
      status: paymentStatus.optional(),
      provider: token(64).optional(),
      since: instant.optional(),
    }),
  )
  .output(z.array(paymentSchema))
  .query(async ({ ctx, input }) => {
    const { store, providers } = ctx.services;
    const filter = {
      userId: ownerFor(ctx.caller, input.user_id),
      status: input.status,
      provider: input.provider,
      since: input.since,
    };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countPayments(store, filter)));
    const rows = await listPayments(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map((row) => paymentView(row, providers));
  });

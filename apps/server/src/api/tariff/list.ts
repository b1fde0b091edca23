import { countTariffs, listTariffs } from '@vpn-api/db';
import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { page } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { tariffSchema } from './schemas.ts';
import { tariffView } from './view.ts';

export const listTariffsProcedure = publicProcedure
  .meta({
    openapi: { method: 'GET', path: '/tariffs', tags: ['tariff'], summary: 'List what is sold', protect: false },
  })
  .input(z.strictObject({ ...page, include_archived: z.boolean().default(false) }))
  .output(z.array(tariffSchema))
  .query(async ({ ctx, input }) => {
    if (input.include_archived && (await ctx.actor()).kind !== 'admin') throw new DomainError('admin_required');
    const filter = { includeArchived: input.include_archived };
    const { store } = ctx.services;
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countTariffs(store, filter)));
    const rows = await listTariffs(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map(tariffView);
  });

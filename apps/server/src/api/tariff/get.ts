import { findTariff } from '@vpn-api/db';
import { DomainError } from '../../domain/errors.ts';
import { publicProcedure } from '../trpc.ts';
import { tariffId, tariffSchema } from './schemas.ts';
import { tariffView } from './view.ts';

export const getTariff = publicProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/tariffs/{tariff_id}',
      tags: ['tariff'],
      summary: 'Read one tariff',
      protect: false,
    },
  })
  .input(tariffId)
  .output(tariffSchema)
  .query(async ({ ctx, input }) => {
    const tariff = await findTariff(ctx.services.store, input.tariff_id);
    const hidden = tariff?.archived_at != null && (await ctx.actor()).kind !== 'admin';
    if (tariff === undefined || hidden) throw new DomainError('tariff_not_found');
    return tariffView(tariff);
  });

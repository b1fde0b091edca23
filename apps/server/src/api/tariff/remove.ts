import { removeTariff } from '../../ops/remove-tariff.ts';
import { auditOf } from '../audit-of.ts';
import { adminProcedure } from '../trpc.ts';
import { removedTariff, tariffId } from './schemas.ts';

export const removeTariffProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/tariffs/{tariff_id}',
      tags: ['tariff'],
      summary: 'Delete a tariff that was never sold',
      protect: true,
    },
    scope: 'tariffs:write',
  })
  .input(tariffId)
  .output(removedTariff)
  .mutation(async ({ ctx, input }) => {
    await removeTariff(ctx.services, { tariffId: input.tariff_id, source: auditOf(ctx) });
    return { msg: 'tariff deleted' as const, tariff_id: input.tariff_id };
  });

import { archiveTariff } from '../../ops/archive-tariff.ts';
import { auditOf } from '../audit-of.ts';
import { adminProcedure } from '../trpc.ts';
import { tariffId, tariffSchema } from './schemas.ts';
import { tariffView } from './view.ts';

export const archiveTariffProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/tariffs/{tariff_id}/archive',
      tags: ['tariff'],
      summary: 'Stop selling a tariff',
      protect: true,
    },
    scope: 'tariffs:write',
  })
  .input(tariffId)
  .output(tariffSchema)
  .mutation(async ({ ctx, input }) =>
    tariffView(await archiveTariff(ctx.services, { tariffId: input.tariff_id, source: auditOf(ctx) })),
  );

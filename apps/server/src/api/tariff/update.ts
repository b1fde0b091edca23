import { z } from 'zod';
import { updateTariff } from '../../ops/update-tariff.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { tariffFields, tariffSchema } from './schemas.ts';
import { tariffView } from './view.ts';

export const updateTariffProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/tariffs/{tariff_id}',
      tags: ['tariff'],
      summary: 'Change what is sold from now on; never a period already sold',
      protect: true,
    },
    scope: 'tariffs:write',
  })
  .input(
    z.strictObject({
      tariff_id: id,
      name: tariffFields.name.optional(),
      description: tariffFields.description.optional(),
      duration_days: tariffFields.duration_days.optional(),
      price: tariffFields.price.optional(),
      currency: tariffFields.currency.optional(),
      prices: tariffFields.prices.optional(),
      device_limit: tariffFields.device_limit.optional(),
      traffic_limit_bytes: tariffFields.traffic_limit_bytes.optional(),
      trial: tariffFields.trial.optional(),
      grace_days: tariffFields.grace_days.optional(),
    }),
  )
  .output(tariffSchema)
  .mutation(async ({ ctx, input }) => {
    const { tariff_id, ...changes } = input;
    return tariffView(await updateTariff(ctx.services, { tariffId: tariff_id, changes, source: auditOf(ctx) }));
  });

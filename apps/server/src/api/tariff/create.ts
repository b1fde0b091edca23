import { z } from 'zod';
import { createTariff } from '../../ops/create-tariff.ts';
import { auditOf } from '../audit-of.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { tariffFields, tariffSchema } from './schemas.ts';
import { tariffView } from './view.ts';

export const createTariffProcedure = adminProcedure
  .meta({
    openapi: { method: 'POST', path: '/tariffs', tags: ['tariff'], summary: 'Sell a new tariff', protect: true },
    scope: 'tariffs:write',
    idempotent: true,
  })
  .input(
    z.strictObject({
      name: tariffFields.name,
      description: tariffFields.description.optional(),
      duration_days: tariffFields.duration_days.optional(),
      price: tariffFields.price.nullish(),
      currency: tariffFields.currency.nullish(),
      prices: tariffFields.prices.nullish(),
      device_limit: tariffFields.device_limit.nullish(),
      traffic_limit_bytes: tariffFields.traffic_limit_bytes.optional(),
      trial: tariffFields.trial.nullish(),
      grace_days: tariffFields.grace_days.nullish(),
    }),
  )
  .output(tariffSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'tariff.create', input }, async (saveAnswer) => {
      const tariff = await createTariff(ctx.services, input, {
        source: auditOf(ctx),
        beforeCommit: (tx, row) => saveAnswer(tx, tariffView(row)),
      });
      return tariffView(tariff);
    }),
  );

import { z } from 'zod';
import { planHost } from '../../ops/plan-host.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { planSchema } from './schemas.ts';
import { planView } from './view.ts';

export const planServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/servers/{id}/plan',
      tags: ['server'],
      summary: 'List a host now and show what would change on it',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(planSchema)
  .mutation(async ({ ctx, input }) => planView(await planHost(ctx.services, input.id)));

import { z } from 'zod';
import { CURRENCIES } from '../../domain/money.ts';
import { publicProcedure } from '../trpc.ts';
import { providerSchema } from './schemas.ts';

export const listProviders = publicProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/payments/providers',
      tags: ['payment'],
      summary: 'List the ways to pay',
      protect: false,
    },
  })
  .input(z.strictObject({}))
  .output(z.array(providerSchema))
  .query(({ ctx }) =>
    [...ctx.services.providers.values()].map((provider) => ({
      name: provider.name,
      currencies: [...(provider.currencies ?? CURRENCIES)],
      checkout: provider.checkoutType,
    })),
  );

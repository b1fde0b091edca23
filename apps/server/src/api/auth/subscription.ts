import { subscriptionView } from '../../domain/subscription.ts';
import { loadChain } from '../../ops/subscription-chain.ts';
import { subscriptionSchema } from '../subscription/schemas.ts';
import { userProcedure } from '../trpc.ts';

export const subscription = userProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/auth/me/subscription',
      tags: ['auth'],
      summary: 'The own subscription, or null when nothing is active or in grace',
      protect: true,
    },
  })
  .output(subscriptionSchema.nullable())
  .query(async ({ ctx }) => {
    const { store, clock } = ctx.services;
    return subscriptionView(await loadChain(store, ctx.caller.user.id), clock.now());
  });

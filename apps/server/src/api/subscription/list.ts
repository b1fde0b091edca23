import { countSubscribedUsers, listPeriodsForUsers, listSubscribedUsers } from '@vpn-api/db';
import { z } from 'zod';
import { foldPeriods, subscriptionView } from '../../domain/subscription.ts';
import { id, instant, page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { subscriptionSchema, subscriptionStatus } from './schemas.ts';

/** Ordered and paged by user: a subscription is one user's chain. */
export const listSubscriptionsProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/subscriptions',
      tags: ['subscription'],
      summary: 'List subscriptions, ordered by user',
      protect: true,
    },
    scope: 'subscriptions:read',
  })
  .input(
    z.strictObject({
      ...page,
      user_id: id.optional(),
      status: subscriptionStatus.optional(),
      ends_before: instant.optional(),
    }),
  )
  .output(z.array(subscriptionSchema))
  .query(async ({ ctx, input }) => {
    const { store, clock } = ctx.services;
    const now = clock.now();
    const filter = { userId: input.user_id, status: input.status, endsBefore: input.ends_before, now };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countSubscribedUsers(store, filter)));
    const bounds = { skip: input.skip, limit: input.limit, afterId: input.after_id };
    const userIds = await listSubscribedUsers(store, filter, bounds);
    const rows = await listPeriodsForUsers(store, userIds);
    const byUser = Map.groupBy(rows, (row) => row.user_id);
    return userIds
      .map((userId) => subscriptionView(foldPeriods(byUser.get(userId) ?? []), now, { includeEnded: true }))
      .filter((view) => view !== null);
  });

import { listLiveFamilies } from '@vpn-api/db';
import { z } from 'zod';
import { page } from '../fields.ts';
import { userProcedure } from '../trpc.ts';
import { sessionSchema } from './schemas.ts';
import { sessionView } from './view.ts';

const { with_total: _, ...bounds } = page;

export const sessions = userProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/auth/sessions',
      tags: ['auth'],
      summary: 'Where one is signed in',
      protect: true,
    },
  })
  .input(z.strictObject(bounds))
  .output(z.array(sessionSchema))
  .query(async ({ ctx, input }) => {
    const { store, clock } = ctx.services;
    const { user, sessionId } = ctx.caller;
    const range = { skip: input.skip, limit: input.limit, afterId: input.after_id };
    const logins = await listLiveFamilies(store, user.id, clock.now(), range);
    return logins.map((login) => sessionView(login, sessionId));
  });

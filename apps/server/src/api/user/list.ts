import { countUsers, listUsers } from '@vpn-api/db';
import { z } from 'zod';
import { email, page, telegramId } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { userSchema, userStatus } from './schemas.ts';
import { userView } from './view.ts';

export const listUsersProcedure = adminProcedure
  .meta({
    openapi: { method: 'GET', path: '/users', tags: ['user'], summary: 'List users', protect: true },
    scope: 'users:read',
  })
  .input(
    z.strictObject({
      ...page,
      email: email.optional(),
      telegram_id: telegramId.optional(),
      status: userStatus.optional(),
    }),
  )
  .output(z.array(userSchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    const filter = { email: input.email, telegramId: input.telegram_id, status: input.status };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countUsers(store, filter)));
    const rows = await listUsers(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map(userView);
  });

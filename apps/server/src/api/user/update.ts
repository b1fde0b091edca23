import { z } from 'zod';
import { updateUser } from '../../ops/update-user.ts';
import { auditOf } from '../audit-of.ts';
import { email, id, telegramId } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { userSchema } from './schemas.ts';
import { userView } from './view.ts';

export const updateUserProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/users/{id}',
      tags: ['user'],
      summary: 'Change the e-mail or Telegram id of an account; null clears',
      protect: true,
    },
  })
  .input(z.strictObject({ id, email: email.nullish(), telegram_id: telegramId.nullish() }))
  .output(userSchema)
  .mutation(async ({ ctx, input }) => {
    const changes = { email: input.email, telegramId: input.telegram_id };
    return userView(await updateUser(ctx.services, { userId: input.id, changes, source: auditOf(ctx) }));
  });

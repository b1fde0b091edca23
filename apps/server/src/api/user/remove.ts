import { z } from 'zod';
import { removeUser } from '../../ops/remove-user.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { userId } from './schemas.ts';

export const removeUserProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/users/{id}',
      tags: ['user'],
      summary: 'Remove an account: identity freed, peers gone, payments kept',
      protect: true,
    },
  })
  .input(userId)
  .output(z.object({ msg: z.literal('user removed'), user_id: id }))
  .mutation(async ({ ctx, input }) => {
    await removeUser(ctx.services, { userId: input.id, source: auditOf(ctx) });
    return { msg: 'user removed' as const, user_id: input.id };
  });

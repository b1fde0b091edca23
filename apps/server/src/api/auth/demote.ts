import { z } from 'zod';
import { demoteUser } from '../../ops/demote-user.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';

export const demote = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/admin/demote',
      tags: ['auth'],
      summary: 'Take the admin role away; never from the last admin',
      protect: true,
    },
  })
  .input(z.strictObject({ user_id: id }))
  .output(z.object({ msg: z.literal('user demoted'), user_id: id }))
  .mutation(async ({ ctx, input }) => {
    await demoteUser(ctx.services, { userId: input.user_id, source: auditOf(ctx) });
    return { msg: 'user demoted' as const, user_id: input.user_id };
  });

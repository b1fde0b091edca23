import { z } from 'zod';
import { promoteUser } from '../../ops/promote-user.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';

export const promote = publicProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/admin/promote',
      tags: ['auth'],
      summary: 'Make a user an admin: by an admin, or once with the secret of the configuration',
      protect: false,
    },
    rate: 'auth',
    rest: { query: ['user_id', 'secret'] },
  })
  .input(z.strictObject({ user_id: id, secret: z.string().max(1024).nullish() }))
  .output(z.object({ msg: z.literal('user promoted'), user_id: id }))
  .mutation(async ({ ctx, input }) => {
    const caller = await ctx.actor();
    const source = auditOf({ ...ctx, caller });
    await promoteUser(ctx.services, { caller, userId: input.user_id, secret: input.secret ?? undefined, source });
    return { msg: 'user promoted' as const, user_id: input.user_id };
  });

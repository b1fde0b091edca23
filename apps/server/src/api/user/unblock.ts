import { unblockUser } from '../../ops/block-user.ts';
import { auditOf } from '../audit-of.ts';
import { adminProcedure } from '../trpc.ts';
import { userId, userSchema } from './schemas.ts';
import { userView } from './view.ts';

export const unblockUserProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/users/{id}/unblock',
      tags: ['user'],
      summary: 'Let a user in again; his peers come back',
      protect: true,
    },
  })
  .input(userId)
  .output(userSchema)
  .mutation(async ({ ctx, input }) =>
    userView(await unblockUser(ctx.services, { userId: input.id, source: auditOf(ctx) })),
  );

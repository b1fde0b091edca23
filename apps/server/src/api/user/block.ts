import { blockUser } from '../../ops/block-user.ts';
import { auditOf } from '../audit-of.ts';
import { adminProcedure } from '../trpc.ts';
import { userId, userSchema } from './schemas.ts';
import { userView } from './view.ts';

export const blockUserProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/users/{id}/block',
      tags: ['user'],
      summary: "End a user's access: sessions at once, peers within seconds",
      protect: true,
    },
  })
  .input(userId)
  .output(userSchema)
  .mutation(async ({ ctx, input }) =>
    userView(await blockUser(ctx.services, { userId: input.id, source: auditOf(ctx) })),
  );

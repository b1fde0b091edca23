import { z } from 'zod';
import { logout } from '../../ops/logout.ts';
import { userProcedure } from '../trpc.ts';

export const logoutProcedure = userProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/logout',
      tags: ['auth'],
      summary: 'End this session, or all of them',
      protect: true,
    },
  })
  .input(z.strictObject({ all: z.boolean().nullish() }))
  .output(z.object({ msg: z.literal('logged out') }))
  .mutation(async ({ ctx, input }) => {
    const { user, sessionId } = ctx.caller;
    await logout(ctx.services, { userId: user.id, sessionId, all: input.all === true });
    return { msg: 'logged out' as const };
  });

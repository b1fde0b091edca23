import { z } from 'zod';
import { revokeSession } from '../../ops/revoke-session.ts';
import { id } from '../fields.ts';
import { userProcedure } from '../trpc.ts';

export const revokeSessionProcedure = userProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/auth/sessions/{id}',
      tags: ['auth'],
      summary: 'Sign out one of the own sessions',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(z.object({ msg: z.literal('session revoked'), id }))
  .mutation(async ({ ctx, input }) => {
    await revokeSession(ctx.services, { userId: ctx.caller.user.id, sessionId: input.id });
    return { msg: 'session revoked' as const, id: input.id };
  });

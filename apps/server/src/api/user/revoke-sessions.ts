import { z } from 'zod';
import { revokeSessionsOfUser } from '../../ops/revoke-user-sessions.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { userId } from './schemas.ts';

export const revokeSessions = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/users/{id}/revoke_sessions',
      tags: ['user'],
      summary: 'Sign a user out everywhere',
      protect: true,
    },
  })
  .input(userId)
  .output(z.object({ msg: z.literal('sessions revoked'), user_id: id }))
  .mutation(async ({ ctx, input }) => {
    await revokeSessionsOfUser(ctx.services, { userId: input.id, source: auditOf(ctx) });
    return { msg: 'sessions revoked' as const, user_id: input.id };
  });

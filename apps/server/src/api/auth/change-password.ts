import { z } from 'zod';
import { changePassword } from '../../ops/change-password.ts';
import { password } from '../fields.ts';
import { userProcedure } from '../trpc.ts';
import { tokensSchema } from './schemas.ts';
import { clientOf, tokensView } from './view.ts';

export const changePasswordProcedure = userProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/password/change',
      tags: ['auth'],
      summary: 'Set a new password; every session ends, and a new one begins with the answer',
      protect: true,
    },
    rate: 'auth',
  })
  .input(z.strictObject({ old_password: password, new_password: password }))
  .output(tokensSchema)
  .mutation(async ({ ctx, input }) => {
    const tokens = await changePassword(ctx.services, {
      userId: ctx.caller.user.id,
      oldPassword: input.old_password,
      newPassword: input.new_password,
      client: clientOf(ctx),
    });
    return tokensView(tokens);
  });

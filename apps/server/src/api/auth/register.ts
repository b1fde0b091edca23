import { z } from 'zod';
import { registerUser } from '../../ops/register-user.ts';
import { email, password } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { userSchema } from '../user/schemas.ts';
import { userView } from '../user/view.ts';

export const register = publicProcedure
  .meta({
    openapi: { method: 'POST', path: '/auth/register', tags: ['auth'], summary: 'Make an account', protect: false },
    rate: 'auth',
  })
  .input(z.strictObject({ email, password }))
  .output(userSchema)
  .mutation(async ({ ctx, input }) => userView(await registerUser(ctx.services, input)));

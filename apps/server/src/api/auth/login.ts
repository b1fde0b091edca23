import { z } from 'zod';
import { login } from '../../ops/login.ts';
import { email, password } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { tokensSchema } from './schemas.ts';
import { clientOf, tokensView } from './view.ts';

export const loginProcedure = publicProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/login',
      tags: ['auth'],
      summary: 'Sign in with a password',
      protect: false,
    },
    rate: 'auth',
    rest: { form: 'oauth2-password' },
  })
  .input(z.strictObject({ email, password }))
  .output(tokensSchema)
  .mutation(async ({ ctx, input }) => tokensView(await login(ctx.services, input, clientOf(ctx))));

import { z } from 'zod';
import { refreshSession } from '../../ops/refresh-session.ts';
import { token } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { tokensSchema } from './schemas.ts';
import { clientOf, tokensView } from './view.ts';

/** Not in the `auth` bucket: the token cannot be guessed, and many users behind one address refresh every hour. */
export const refresh = publicProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/auth/refresh',
      tags: ['auth'],
      summary: 'Exchange a refresh token, which works once, for new tokens',
      protect: false,
    },
  })
  .input(z.strictObject({ refresh_token: token(512) }))
  .output(tokensSchema)
  .mutation(async ({ ctx, input }) =>
    tokensView(await refreshSession(ctx.services, input.refresh_token, clientOf(ctx))),
  );

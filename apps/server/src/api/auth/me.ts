import { userProcedure } from '../trpc.ts';
import { userSchema } from '../user/schemas.ts';
import { userView } from '../user/view.ts';

export const me = userProcedure
  .meta({ openapi: { method: 'GET', path: '/auth/me', tags: ['auth'], summary: 'The signed-in user', protect: true } })
  .output(userSchema)
  .query(({ ctx }) => userView(ctx.caller.user));

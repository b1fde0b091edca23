import { z } from 'zod';
import { ensureUser } from '../../ops/ensure-user.ts';
import { auditOf } from '../audit-of.ts';
import { email, telegramId } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { userSchema } from './schemas.ts';
import { userView } from './view.ts';

export const ensureUserProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/users/ensure',
      tags: ['user'],
      summary: 'Find the user of a Telegram id or e-mail, or make one',
      protect: true,
    },
    scope: 'users:write',
    idempotent: true,
  })
  .input(z.strictObject({ telegram_id: telegramId.nullish(), email: email.nullish() }))
  .output(userSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'user.ensure', input }, async (saveAnswer) => {
      const identity = { telegramId: input.telegram_id ?? undefined, email: input.email ?? undefined };
      const user = await ensureUser(ctx.services, identity, {
        source: auditOf(ctx),
        beforeCommit: (tx, row) => saveAnswer(tx, userView(row)),
      });
      return userView(user);
    }),
  );

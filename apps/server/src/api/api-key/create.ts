import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { type CreatedApiKey, createApiKey } from '../../ops/api-keys.ts';
import { scopes } from '../actor.ts';
import { auditOf } from '../audit-of.ts';
import { instant, name } from '../fields.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { createdApiKeySchema, scope } from './schemas.ts';
import { apiKeyView } from './view.ts';

export const createApiKeyProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/api_keys',
      tags: ['api key'],
      summary: 'Make an API key for a bot or backend; it is shown this once',
      protect: true,
    },
    idempotent: true,
  })
  .input(
    z.strictObject({
      name: name(100),
      scopes: z.array(scope).min(1).max(scopes.length),
      expires_at: instant.nullish(),
    }),
  )
  .output(createdApiKeySchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'apiKey.create', input }, async (saveAnswer) => {
      if (ctx.caller.kind === 'service') throw new DomainError('not_allowed');
      const key = {
        name: input.name,
        scopes: input.scopes,
        expiresAt: input.expires_at ?? null,
        createdBy: ctx.caller.user.id,
      };
      const created = await createApiKey(ctx.services, key, {
        source: auditOf(ctx),
        beforeCommit: (tx, made) => saveAnswer(tx, createdView(made)),
      });
      return createdView(created);
    }),
  );

function createdView({ row, key }: CreatedApiKey): z.output<typeof createdApiKeySchema> {
  return { ...apiKeyView(row), key };
}

import { z } from 'zod';
import { revokeApiKey } from '../../ops/api-keys.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';

export const revokeApiKeyProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/api_keys/{id}',
      tags: ['api key'],
      summary: 'End an API key at once',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(z.object({ msg: z.literal('api key revoked'), id }))
  .mutation(async ({ ctx, input }) => {
    await revokeApiKey(ctx.services, { keyId: input.id, source: auditOf(ctx) });
    return { msg: 'api key revoked' as const, id: input.id };
  });

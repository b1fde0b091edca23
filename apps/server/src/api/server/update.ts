import { z } from 'zod';
import { updateServerBy } from '../../ops/update-server.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { answerServer, readCredentials } from './answer.ts';
import { optionalSettings, pool, serverDriver, serverName, serverSchema } from './schemas.ts';

export const updateServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/servers/{id}',
      tags: ['server'],
      summary: 'Change a server; another host, or another way to it, is only observed again',
      protect: true,
    },
  })
  .input(
    z.strictObject({
      id,
      name: serverName.optional(),
      driver: serverDriver.optional(),
      pool_v4: pool.optional(),
      ...optionalSettings,
      mode: z.literal('observe').optional().describe('back to looking only; `apply` is the way there'),
    }),
  )
  .output(serverSchema)
  .mutation(async ({ ctx, input: { id: serverId, credentials, ...settings } }) => {
    const change = { ...settings, credentials: readCredentials(credentials) };
    return answerServer(ctx, await updateServerBy(ctx.services, { id: serverId, change, source: auditOf(ctx) }));
  });

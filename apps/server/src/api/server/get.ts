import { z } from 'zod';
import { getServer } from '../../ops/get-server.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { answerServer } from './answer.ts';
import { serverSchema } from './schemas.ts';

export const getServerProcedure = adminProcedure
  .meta({
    openapi: { method: 'GET', path: '/servers/{id}', tags: ['server'], summary: 'Get a server', protect: true },
  })
  .input(z.strictObject({ id }))
  .output(serverSchema)
  .query(async ({ ctx, input }) => answerServer(ctx, await getServer(ctx.services.store, input.id)));

import { z } from 'zod';
import { testServer } from '../../ops/test-server.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { checksSchema } from './schemas.ts';

export const testServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/servers/{id}/test',
      tags: ['server'],
      summary: 'Check reachability, credentials, interface and clock of a host, and say what to do',
      protect: true,
    },
  })
  .input(z.strictObject({ id }))
  .output(checksSchema)
  .mutation(async ({ ctx, input }) => {
    const checks = await testServer(ctx.services, input.id);
    return { server_id: input.id, ok: checks.every(({ ok }) => ok !== false), checks: [...checks] };
  });

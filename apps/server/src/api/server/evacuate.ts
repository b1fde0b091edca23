import { z } from 'zod';
import { EVACUATE_MAX, evacuateServer } from '../../ops/evacuate-server.ts';
import { auditOf } from '../audit-of.ts';
import { id, name } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';

export const evacuateServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/servers/{id}/evacuate',
      tags: ['server'],
      summary: 'Move the peers of a server elsewhere and drain it; call again while some remain',
      protect: true,
    },
  })
  .input(
    z.strictObject({
      id,
      to_server_id: id.nullish(),
      to_region: name(64).nullish(),
      limit: z.int().min(1).max(EVACUATE_MAX).default(EVACUATE_MAX).describe('peers moved by this call'),
    }),
  )
  .output(
    z.object({
      moved: z.int(),
      remaining: z.int(),
      /** Why it ended early: the other servers are full. */
      stopped: z.literal('no_capacity').nullable(),
    }),
  )
  .mutation(({ ctx, input }) => {
    const target = { serverId: input.to_server_id, region: input.to_region };
    return evacuateServer(ctx.services, { id: input.id, target, limit: input.limit, source: auditOf(ctx) });
  });

import { countServers, listServers } from '@vpn-api/db';
import { z } from 'zod';
import { loadServers } from '../../ops/server-load.ts';
import { name, page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { serverSchema } from './schemas.ts';
import { serverView } from './view.ts';

export const listServersProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/servers',
      tags: ['server'],
      summary: 'List servers, their load and their health',
      protect: true,
    },
  })
  .input(z.strictObject({ ...page, region: name(64).optional(), mode: z.enum(['observe', 'apply']).optional() }))
  .output(z.array(serverSchema))
  .query(async ({ ctx, input }) => {
    const { store, clock } = ctx.services;
    const filter = { region: input.region, mode: input.mode };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countServers(store, filter)));
    const bounds = { skip: input.skip, limit: input.limit, afterId: input.after_id };
    const servers = await loadServers(store, await listServers(store, filter, bounds));
    return servers.map((server) => serverView(server, clock.now()));
  });

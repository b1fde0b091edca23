import type { ServerRow } from '@vpn-api/db';
import { z } from 'zod';
import {
  drainServer,
  retireServer,
  type ServerRequest,
  undrainServer,
  unretireServer,
} from '../../ops/drain-server.ts';
import type { Services } from '../../services.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { answerServer } from './answer.ts';
import { serverSchema } from './schemas.ts';

type Act = (services: Services, request: ServerRequest) => Promise<ServerRow>;

/** `POST /servers/{id}/{verb}`, answered with the server as it is then. */
function serverAction(verb: string, summary: string, act: Act) {
  return adminProcedure
    .meta({
      openapi: { method: 'POST', path: `/servers/{id}/${verb}`, tags: ['server'], summary, protect: true },
    })
    .input(z.strictObject({ id }))
    .output(serverSchema)
    .mutation(async ({ ctx, input }) =>
      answerServer(ctx, await act(ctx.services, { id: input.id, source: auditOf(ctx) })),
    );
}

export const drainServerProcedure = serverAction('drain', 'Place no new peers on a server', drainServer);

export const undrainServerProcedure = serverAction('undrain', 'Place peers on a server again', undrainServer);

export const retireServerProcedure = serverAction(
  'retire',
  'Give up a host without peers: it is not asked any more, and nobody waits for it',
  retireServer,
);

export const unretireServerProcedure = serverAction(
  'unretire',
  'A host is back: what it still has of ours is removed first, and it goes on draining',
  unretireServer,
);

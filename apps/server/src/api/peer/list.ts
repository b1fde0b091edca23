import { countPeers, listPeers } from '@vpn-api/db';
import { z } from 'zod';
import { judgePeers } from '../../ops/peer-access.ts';
import { ownerFor } from '../actor.ts';
import { id, page } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { peerSchema, peerState } from './schemas.ts';
import { peerView } from './view.ts';

/** `state` filters by what the host last confirmed. Removed peers are shown to operators only, by `state=removing`. */
export const listPeersProcedure = accountProcedure
  .meta({
    openapi: { method: 'GET', path: '/vpn_peers', tags: ['peer'], summary: 'List peers', protect: true },
    scope: 'peers:read',
  })
  .input(z.strictObject({ ...page, user_id: id.optional(), server_id: id.optional(), state: peerState.optional() }))
  .output(z.array(peerSchema))
  .query(async ({ ctx, input }) => {
    const { store, clock } = ctx.services;
    if (input.state === 'removing' && ctx.caller.kind === 'user') return [];
    const filter = { userId: ownerFor(ctx.caller, input.user_id), serverId: input.server_id, state: input.state };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countPeers(store, filter)));
    const rows = await listPeers(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return (await judgePeers(store, rows, clock.now())).map(peerView);
  });

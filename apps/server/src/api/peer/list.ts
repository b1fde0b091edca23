import { z } from 'zod';
import { listJudgedPeers } from '../../ops/list-peers.ts';
import { ownerFor } from '../actor.ts';
import { id, page } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { peerSchema, peerState } from './schemas.ts';
import { peerView } from './view.ts';

/** Removed peers are shown to operators only, by `state=removing`. */
export const listPeersProcedure = accountProcedure
  .meta({
    openapi: { method: 'GET', path: '/vpn_peers', tags: ['peer'], summary: 'List peers', protect: true },
    scope: 'peers:read',
  })
  .input(z.strictObject({ ...page, user_id: id.optional(), server_id: id.optional(), state: peerState.optional() }))
  .output(z.array(peerSchema))
  .query(async ({ ctx, input }) => {
    const { user_id, server_id, state, skip, limit, after_id, with_total } = input;
    const userId = ownerFor(ctx.caller, user_id);
    if (state === 'removing' && ctx.caller.kind === 'user') return [];
    const page = { skip, limit, afterId: after_id };
    const query = { userId, serverId: server_id, state, page, withTotal: with_total };
    const { peers, total } = await listJudgedPeers(ctx.services, query);
    if (total !== undefined) ctx.responseHeaders.set('x-total-count', String(total));
    return peers.map(peerView);
  });

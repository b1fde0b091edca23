import { z } from 'zod';
import { invalidField } from '../../domain/errors.ts';
import { createPeer } from '../../ops/create-peer.ts';
import { type AccountActor, ownerFor } from '../actor.ts';
import { auditOf } from '../audit-of.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { creatingPeer } from './creating.ts';
import { newPeerFields, peerSchema } from './schemas.ts';

export const createPeerProcedure = accountProcedure
  .meta({
    openapi: { method: 'POST', path: '/vpn_peers', tags: ['peer'], summary: 'Add a device', protect: true },
    scope: 'peers:write',
    idempotent: true,
    rest: { legacyKeys: ['wg_ip', 'allowed_ips'] },
  })
  .input(z.strictObject({ user_id: id.nullish(), ...newPeerFields }))
  .output(peerSchema)
  .mutation(({ ctx, input }) =>
    creatingPeer({ ctx, path: 'peer.create', input }, (beforeCommit) =>
      createPeer(
        ctx.services,
        {
          caller: ctx.caller,
          userId: targetUser(ctx.caller, input.user_id),
          deviceName: input.device_name,
          publicKey: input.wg_public_key,
          serverId: input.server_id,
          region: input.region,
        },
        { source: ctx.caller.kind === 'user' ? undefined : auditOf(ctx), beforeCommit },
      ),
    ),
  );

function targetUser(caller: AccountActor, userId: number | null | undefined): number {
  const named = ownerFor(caller, userId);
  if (named !== undefined) return named;
  if (caller.kind === 'service') throw invalidField('user_id', 'is required with an API key');
  return caller.user.id;
}

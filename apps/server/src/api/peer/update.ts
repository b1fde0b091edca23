import { AddressError, ClientConfigError, parseAllowedIps, parseHostCidr, printCidr } from '@vpn-api/wg';
import { z } from 'zod';
import { DomainError, invalidField } from '../../domain/errors.ts';
import { updatePeerFields } from '../../ops/update-peer.ts';
import { id, text, token } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { peerRequest } from './find-visible.ts';
import { clientRoutes, peerSchema } from './schemas.ts';
import { peerView } from './view.ts';

export const updatePeerProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/vpn_peers/{peer_id}',
      tags: ['peer'],
      summary: 'Rename a device or change its routes',
      protect: true,
    },
    scope: 'peers:write',
  })
  .input(
    z.strictObject({
      peer_id: id,
      device_name: text(64).nullish(),
      allowed_ips: clientRoutes.nullish(),
      wg_ip: token(64).optional(),
    }),
  )
  .output(peerSchema)
  .mutation(async ({ ctx, input }) => {
    if (input.wg_ip !== undefined && ctx.caller.kind !== 'admin') throw new DomainError('not_allowed');
    const edit = {
      deviceName: input.device_name,
      allowedIps: input.allowed_ips == null ? input.allowed_ips : printedRoutes(input.allowed_ips),
      address: input.wg_ip === undefined ? undefined : printedAddress(input.wg_ip),
    };
    return peerView(await updatePeerFields(ctx.services, peerRequest(ctx, input.peer_id), edit));
  });

/** Read and printed again: what a client sent never stands in a config as it came. */
function printedRoutes(routes: string): string {
  try {
    return parseAllowedIps(routes).join(', ');
  } catch (error) {
    if (error instanceof ClientConfigError) throw invalidField('allowed_ips', 'is not a list of networks');
    throw error;
  }
}

function printedAddress(address: string): string {
  try {
    return printCidr(parseHostCidr(address));
  } catch (error) {
    if (error instanceof AddressError) throw invalidField('wg_ip', 'is not an IP address');
    throw error;
  }
}

import { z } from 'zod';
import { createServer } from '../../ops/create-server.ts';
import type { ServerSettings } from '../../ops/server-settings.ts';
import { auditOf } from '../audit-of.ts';
import { runOnce } from '../run-once.ts';
import { adminProcedure } from '../trpc.ts';
import { readCredentials } from './answer.ts';
import { optionalSettings, pool, serverDriver, serverName, serverSchema } from './schemas.ts';
import { serverView } from './view.ts';

const newServer = z.strictObject({ name: serverName, driver: serverDriver, pool_v4: pool, ...optionalSettings });

export const createServerProcedure = adminProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/servers',
      tags: ['server'],
      summary: 'Add a WireGuard host; it is only observed until its plan is applied',
      protect: true,
    },
    idempotent: true,
  })
  .input(newServer)
  .output(serverSchema)
  .mutation(({ ctx, input }) =>
    runOnce({ ctx, path: 'server.create', input }, async (saveAnswer) => {
      const { clock } = ctx.services;
      const view = (server: Parameters<typeof serverView>[0]['server']) =>
        serverView({ server, load: { peers: 0, oldest_pending_since: null } }, clock.now());
      const server = await createServer(
        ctx.services,
        { settings: withDefaults(input), credentials: readCredentials(input.credentials) ?? {} },
        { source: auditOf(ctx), beforeCommit: (tx, row) => saveAnswer(tx, view(row)) },
      );
      return view(server);
    }),
  );

function withDefaults(input: z.output<typeof newServer>): ServerSettings {
  return {
    name: input.name,
    region: input.region ?? null,
    driver: input.driver,
    keys: input.keys ?? (input.driver === 'wg-easy' ? 'reported' : 'given'),
    address: input.address ?? null,
    username: input.username ?? null,
    host_fingerprint: input.host_fingerprint ?? null,
    privilege: input.privilege ?? 'direct',
    scripts: input.scripts ?? {},
    interface: input.interface ?? 'wg0',
    endpoint: input.endpoint ?? null,
    public_key: input.public_key ?? null,
    pool_v4: input.pool_v4,
    pool_v6: input.pool_v6 ?? null,
    dns: input.dns === undefined ? '1.1.1.1' : input.dns,
    mtu: input.mtu ?? 1420,
    client_allowed_ips: input.client_allowed_ips ?? '0.0.0.0/0, ::/0',
    keepalive: input.keepalive ?? 25,
    protocol: input.protocol ?? 'wireguard',
    protocol_params: input.protocol_params ?? {},
    capacity: input.capacity ?? null,
    weight: input.weight ?? 100,
  };
}

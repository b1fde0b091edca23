import type { ServerRow } from '@vpn-api/db';
import type { z } from 'zod';
import type { HostCredentials } from '../../ops/host-credentials.ts';
import { loadServer } from '../../ops/server-load.ts';
import type { Context } from '../context.ts';
import type { optionalSettings, serverSchema } from './schemas.ts';
import { serverView } from './view.ts';

/** A server as its row is now. */
export async function answerServer({ services }: Context, server: ServerRow): Promise<z.output<typeof serverSchema>> {
  return serverView(await loadServer(services.store, server), services.clock.now());
}

/** Only what was sent: how credentials are kept says nothing of what is absent. */
export function readCredentials(input: z.output<typeof optionalSettings.credentials>): HostCredentials | undefined {
  if (input === undefined) return undefined;
  const { password, api_key: apiKey, private_key: privateKey, passphrase } = input;
  const entries = Object.entries({ password, apiKey, privateKey, passphrase });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

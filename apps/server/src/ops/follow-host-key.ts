import { raiseConfigVersions, type ServerRow, updateServer } from '@vpn-api/db';
import { ClientConfigError, parseClientConfig } from '@vpn-api/wg';
import type { Services } from '../services.ts';
import type { ChangeResults } from './apply-plan.ts';

type Deps = Pick<Services, 'store' | 'config' | 'log'>;

/**
 * A host that writes client configs names its own key in them. One that was set up anew, at its old address and without
 * its data, has another key than before: with the old one every config we print would be dead. All clients must fetch
 * theirs again then. What the settings say of the key stands, and the log says that it is wrong.
 */
export async function followHostKey(deps: Deps, server: ServerRow, results: ChangeResults): Promise<void> {
  const public_key = keyInConfigs(results);
  if (public_key === undefined || server.public_key === null || server.public_key === public_key) return;
  if (server.origin === 'env' && deps.config.wireguard.serverPublicKey !== undefined) {
    deps.log.warn({ server: server.name }, 'WG_SERVER_PUBLIC_KEY is not the key of the host: no tunnel will come up');
    return;
  }
  await deps.store.transaction(async (tx) => {
    await raiseConfigVersions(tx, server.id);
    await updateServer(tx, server.id, { public_key });
  });
  deps.log.warn(
    { server: server.name },
    'the host has another key than before: all clients must fetch their configs again',
  );
}

function keyInConfigs(results: ChangeResults): string | undefined {
  for (const result of results.values()) {
    const text = result.outcome === 'applied' ? result.reported?.config : undefined;
    if (text != null) return readKey(text);
  }
  return undefined;
}

function readKey(text: string): string | undefined {
  try {
    return parseClientConfig(text).publicKey;
  } catch (error) {
    if (error instanceof ClientConfigError) return undefined;
    throw error;
  }
}

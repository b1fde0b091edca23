import { insertServer, isUniqueViolation, type ServerRow, updateServer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import { claimHost } from './claim-host.ts';
import type { Committing } from './committing.ts';
import { type HostCredentials, sealCredentials } from './host-credentials.ts';
import { type ServerSettings, settingsColumns } from './server-settings.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'secretBox' | 'reconciler'>;

export interface NewServerInput {
  readonly settings: ServerSettings;
  readonly credentials: HostCredentials;
}

/**
 * Adds a host. It is only observed until somebody has seen the plan and applied it.
 * @throws DomainError `validation_failed`, `server_exists`
 */
export async function createServer(
  deps: Deps,
  { settings, credentials }: NewServerInput,
  { source, beforeCommit }: Committing<ServerRow>,
): Promise<ServerRow> {
  const columns = settingsColumns(deps, settings, credentials);
  const now = deps.clock.now();
  try {
    return await deps.store.transaction(async (tx) => {
      const inserted = await insertServer(tx, { ...columns, mode: 'observe', origin: 'api', created_at: now });
      await claimHost(tx, inserted, now);
      const sealed = sealCredentials(deps, inserted.id, credentials);
      const server = await updateServer(tx, inserted.id, { credentials_sealed: sealed });
      const details = { name: server.name, driver: server.driver };
      await audit(tx, { ...source, at: now, action: 'server.create', target: `server:${server.id}`, details });
      await beforeCommit(tx, server);
      tx.onCommit(() => deps.reconciler.wake([server.id]));
      return server;
    });
  } catch (error) {
    throw asServerExists(error);
  }
}

export function asServerExists(error: unknown): unknown {
  return isUniqueViolation(error) === 'servers(name)' ? new DomainError('server_exists', { cause: error }) : error;
}

import { findServer, lockServer, type Queryable, type ServerRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';

/** @throws DomainError `server_not_found`, also for a removed one */
export async function getServer(q: Queryable, id: number): Promise<ServerRow> {
  return existing(await findServer(q, id));
}

/** After the locks of users and peers. @throws DomainError `server_not_found`, also for a removed one */
export async function getLockedServer(tx: Tx, id: number): Promise<ServerRow> {
  return existing(await lockServer(tx, id));
}

function existing(server: ServerRow | undefined): ServerRow {
  if (server === undefined || server.removed_at !== null) throw new DomainError('server_not_found');
  return server;
}

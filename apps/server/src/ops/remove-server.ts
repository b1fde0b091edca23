import { countPeers, owesRemovals, updateServer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { getLockedServer } from './get-server.ts';

type Deps = Pick<Services, 'store' | 'clock'>;

/**
 * Hides a server that has no peers and whose host owes nothing. Its name is free again and its credentials are forgotten;
 * the row stays for the keys that name it.
 * @throws DomainError `server_not_found`, `server_from_settings`, `server_has_peers`, `server_owes_removals`
 */
export async function removeServer(
  { store, clock }: Deps,
  { id, source }: { readonly id: number; readonly source: AuditSource },
): Promise<void> {
  await store.transaction(async (tx) => {
    const server = await getLockedServer(tx, id);
    if (server.origin === 'env') throw new DomainError('server_from_settings');
    if ((await countPeers(tx, { serverId: id })) > 0) throw new DomainError('server_has_peers');
    if (await owesRemovals(tx, id)) throw new DomainError('server_owes_removals');
    const now = clock.now();
    await updateServer(tx, id, { removed_at: now, name: `${server.name} (removed ${id})`, credentials_sealed: null });
    await audit(tx, {
      ...source,
      at: now,
      action: 'server.remove',
      target: `server:${id}`,
      details: { name: server.name },
    });
  });
}

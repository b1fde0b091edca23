import { lockUser } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { endAllSessions } from './logout.ts';

/**
 * Signs a user out everywhere, at once.
 * @throws DomainError `user_not_found`
 */
export async function revokeSessionsOfUser(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { userId, source }: { readonly userId: number; readonly source: AuditSource },
): Promise<void> {
  const at = clock.now();
  await store.transaction(async (tx) => {
    const user = await lockUser(tx, userId);
    if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
    await endAllSessions(tx, user, at);
    await audit(tx, { ...source, at, action: 'user.revoke_sessions', target: `user:${userId}` });
  });
}

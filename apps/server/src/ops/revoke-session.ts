import { findSession, lockUser, revokeFamily } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';

/**
 * Ends one of a user's own sessions, named by its id in the list.
 * @throws DomainError `session_not_found`, also for another's session and one that has ended
 */
export async function revokeSession(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { userId, sessionId }: { readonly userId: number; readonly sessionId: number },
): Promise<void> {
  await store.transaction(async (tx) => {
    await lockUser(tx, userId);
    const session = await findSession(tx, sessionId);
    const isOwnLogin = session?.user_id === userId && session.family_id === session.id;
    if (!isOwnLogin) throw new DomainError('session_not_found');
    const ended = await revokeFamily(tx, sessionId, clock.now());
    if (ended === 0) throw new DomainError('session_not_found');
  });
}

import { completeTrialClaim, updateUser } from '@vpn-api/db';
import { trialIdentity } from '../crypto/trial-identity.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { lockUserKeepingAnAdmin } from './keep-an-admin.ts';
import { endAllSessions } from './logout.ts';
import { removeUserPeers } from './remove-user-peers.ts';
import { wakeHostsOf } from './wake-hosts.ts';

/**
 * Removes an account: e-mail and Telegram id are free for a new one, the password, sessions and peers are gone. The row
 * stays, since payments and periods belong to it.
 * @throws DomainError `user_not_found`, `last_admin`
 */
export async function removeUser(
  { store, clock, reconciler, config }: Pick<Services, 'store' | 'clock' | 'reconciler' | 'config'>,
  { userId, source }: { readonly userId: number; readonly source: AuditSource },
): Promise<void> {
  const at = clock.now();
  await store.transaction(async (tx) => {
    const user = await lockUserKeepingAnAdmin(tx, userId);
    const peers = await removeUserPeers(tx, userId, at);
    if (user.telegram_id !== null) {
      await completeTrialClaim(tx, userId, trialIdentity(config.secrets.secretKey, user.telegram_id));
    }
    await endAllSessions(tx, user, at);
    await updateUser(tx, userId, {
      email: null,
      email_verified_at: null,
      telegram_id: null,
      password_hash: null,
      role: 'user',
      status: 'blocked',
      blocked_at: user.blocked_at ?? at,
      removed_at: at,
    });
    await audit(tx, { ...source, at, action: 'user.remove', target: `user:${userId}`, details: { peers } });
    await wakeHostsOf({ reconciler }, tx, userId);
  });
}

import { lockUser, type UserRow, updateUser } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { lockUserKeepingAnAdmin } from './keep-an-admin.ts';
import { endAllSessions } from './logout.ts';
import { wakeHostsOf } from './wake-hosts.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'reconciler'>;

interface OnUser {
  readonly userId: number;
  readonly source: AuditSource;
}

/**
 * Ends a user's sessions now, and his peers as soon as the reconciler has run. Blocking a blocked user changes nothing.
 * @throws DomainError `user_not_found`, `last_admin`
 */
export async function blockUser({ store, clock, reconciler }: Deps, { userId, source }: OnUser): Promise<UserRow> {
  const at = clock.now();
  return store.transaction(async (tx) => {
    const user = await lockUserKeepingAnAdmin(tx, userId);
    if (user.status === 'blocked') return user;
    await endAllSessions(tx, user, at);
    await audit(tx, { ...source, at, action: 'user.block', target: `user:${userId}` });
    await wakeHostsOf({ reconciler }, tx, userId);
    return updated(await updateUser(tx, userId, { status: 'blocked', blocked_at: at }));
  });
}

/**
 * Lets a user in again; he signs in anew. His peers come back with the reconciler's next pass.
 * @throws DomainError `user_not_found`
 */
export async function unblockUser({ store, clock, reconciler }: Deps, { userId, source }: OnUser): Promise<UserRow> {
  const at = clock.now();
  return store.transaction(async (tx) => {
    const user = await lockUser(tx, userId);
    if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
    if (user.status === 'active') return user;
    await audit(tx, { ...source, at, action: 'user.unblock', target: `user:${userId}` });
    await wakeHostsOf({ reconciler }, tx, userId);
    return updated(await updateUser(tx, userId, { status: 'active', blocked_at: null }));
  });
}

function updated(user: UserRow | undefined): UserRow {
  if (user === undefined) throw new Error('a locked user has vanished');
  return user;
}

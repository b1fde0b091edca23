import { lockAdmins, lockUser, type Tx, type UserRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';

/**
 * Locks a user for a change after which he is no admin that can sign in. All admins are locked first, always in the same
 * order, so that two of them cannot take each other's rights at once.
 * @throws DomainError `user_not_found`, `last_admin`
 */
export async function lockUserKeepingAnAdmin(tx: Tx, userId: number): Promise<UserRow> {
  const admins = await lockAdmins(tx);
  const user = admins.find(({ id }) => id === userId) ?? (await lockUser(tx, userId));
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  const others = admins.filter(({ id, status }) => id !== userId && status === 'active');
  if (user.role === 'admin' && user.status === 'active' && others.length === 0) throw new DomainError('last_admin');
  return user;
}

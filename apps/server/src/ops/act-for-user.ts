import { findUserById, type Queryable, type UserRow } from '@vpn-api/db';
import type { AccountActor } from '../api/actor.ts';
import { DomainError } from '../domain/errors.ts';

/**
 * The user that a call is about. Services act for users, never on admins: a key that leaks gives nobody's rights away.
 * @throws DomainError `user_not_found`, `not_allowed`
 */
export async function getUserToActFor(q: Queryable, caller: AccountActor, userId: number): Promise<UserRow> {
  const user = await findUserById(q, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  assertMayActFor(caller, user);
  return user;
}

/** @throws DomainError `not_allowed` for a service and an admin */
export function assertMayActFor(caller: AccountActor, user: UserRow): void {
  if (caller.kind === 'service' && user.role === 'admin') throw new DomainError('not_allowed');
}

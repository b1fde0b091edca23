import { isUniqueViolation, lockUser, type UserPatch, type UserRow, updateUser as updateUserRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';

interface UpdateUser {
  readonly userId: number;
  /** Absent stays as it is, null clears. The e-mail is in canonical form. */
  readonly changes: { readonly email?: string | null | undefined; readonly telegramId?: number | null | undefined };
  readonly source: AuditSource;
}

/**
 * Changes who an account belongs to. A new address counts as unverified.
 * @throws DomainError `user_not_found`, `email_taken`, `identity_conflict`
 */
export async function updateUser(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { userId, changes, source }: UpdateUser,
): Promise<UserRow> {
  const at = clock.now();
  try {
    return await store.transaction(async (tx) => {
      const user = await lockUser(tx, userId);
      if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
      const patch = patchOf(user, changes);
      const fields = Object.keys(patch);
      if (fields.length === 0) return user;
      // The names only: what the values were would outlive the account.
      await audit(tx, { ...source, at, action: 'user.update', target: `user:${userId}`, details: { fields } });
      return (await updateUserRow(tx, userId, patch)) ?? user;
    });
  } catch (error) {
    throw takenIdentity(error) ?? error;
  }
}

function patchOf(user: UserRow, { email, telegramId }: UpdateUser['changes']): UserPatch {
  return {
    ...(email === undefined || email === user.email ? {} : { email, email_verified_at: null }),
    ...(telegramId === undefined || telegramId === user.telegram_id ? {} : { telegram_id: telegramId }),
  };
}

/** The refusal behind a unique violation of an account's identity; undefined for any other error. */
export function takenIdentity(error: unknown): DomainError | undefined {
  const rule = isUniqueViolation(error);
  if (rule === 'users(email)') return new DomainError('email_taken', { cause: error });
  if (rule === 'users(telegram_id)') return new DomainError('identity_conflict', { cause: error });
  return undefined;
}

import { findUserById, lockUser, revokeUserSessions, type UserRow, updateUser } from '@vpn-api/db';
import { assertAcceptablePassword } from '../crypto/passwords.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { limitAccount } from './account-limit.ts';
import {
  type Client,
  type IssuedTokens,
  type StoredSession,
  signTokens,
  storeSession,
  type TokenDeps,
} from './issue-tokens.ts';

type Deps = TokenDeps & Pick<Services, 'store' | 'passwords' | 'rateLimiter'>;

interface ChangePassword {
  readonly userId: number;
  readonly oldPassword: string;
  readonly newPassword: string;
  readonly client: Client;
}

/**
 * Sets a new password and ends every session, the calling one included: whoever holds a copy of its tokens is out too.
 * Answers the tokens of a new one.
 * @throws DomainError `invalid_credentials`, `password_too_short`, `password_too_common`, `rate_limited`, `overloaded`
 */
export async function changePassword(deps: Deps, change: ChangePassword): Promise<IssuedTokens> {
  const user = await findUserById(deps.store, change.userId);
  assertAcceptablePassword(change.newPassword, user?.email);
  limitAccount(deps, `id:${change.userId}`);
  const matches = await deps.passwords.verify(user?.password_hash, change.oldPassword);
  if (user === undefined || !matches) throw new DomainError('invalid_credentials');
  const passwordHash = await deps.passwords.hash(change.newPassword);
  const stored = await replacePassword(deps, user, { passwordHash, client: change.client });
  return signTokens(deps, stored.user, stored);
}

interface Replacement {
  readonly passwordHash: string;
  readonly client: Client;
}

async function replacePassword(
  deps: Deps,
  verified: UserRow,
  { passwordHash, client }: Replacement,
): Promise<StoredSession & { readonly user: UserRow }> {
  return deps.store.transaction(async (tx) => {
    const user = await lockUser(tx, verified.id);
    // Of two changes at once the second no longer knows the old password.
    if (user?.status !== 'active' || user.password_hash !== verified.password_hash) {
      throw new DomainError('invalid_credentials');
    }
    await revokeUserSessions(tx, user.id, { at: deps.clock.now() });
    const token_version = user.token_version + 1;
    await updateUser(tx, user.id, { password_hash: passwordHash, token_version });
    const stored = await storeSession(deps, tx, { userId: user.id, client });
    return { ...stored, user: { ...user, token_version } };
  });
}

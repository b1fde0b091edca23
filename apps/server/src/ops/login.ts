import { findUserByEmail, hasSessionFrom, lockUser, type UserRow, updateUser } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { limitAccount } from './account-limit.ts';
import { type Client, type IssuedTokens, signTokens, storeSession, type TokenDeps } from './issue-tokens.ts';

type Deps = TokenDeps & Pick<Services, 'store' | 'passwords' | 'rateLimiter'>;

interface Credentials {
  /** In canonical form. */
  readonly email: string;
  readonly password: string;
}

/**
 * Starts a session. Nobody by that name, an account without a password, a wrong password and a blocked account take the
 * same steps and give the same answer.
 * @throws DomainError `invalid_credentials`, `rate_limited`, `overloaded`
 */
export async function login(deps: Deps, credentials: Credentials, client: Client): Promise<IssuedTokens> {
  const { email, password } = credentials;
  const user = await findUserByEmail(deps.store, email);
  await limitLogins(deps, { email, userId: user?.id ?? 0, ip: client.ip });
  const matches = await deps.passwords.verify(user?.password_hash, password);
  if (user === undefined || !matches || user.status !== 'active') throw new DomainError('invalid_credentials');
  return startSession(deps, user, { client, newHash: await renewedHash(deps, user, password) });
}

/** Guessing from elsewhere must not keep the owner out: an address he has used before has an allowance of its own. */
async function limitLogins(
  deps: Deps,
  { email, userId, ip }: { readonly email: string; readonly userId: number; readonly ip: string },
): Promise<void> {
  const isKnown = await hasSessionFrom(deps.store, userId, ip);
  limitAccount(deps, isKnown ? `${email}:${ip}` : email);
}

/** A hash of another cost is made anew while the password is at hand; on a busy server at a later login. */
async function renewedHash({ passwords }: Deps, user: UserRow, password: string): Promise<string | undefined> {
  if (user.password_hash === null || !passwords.isOutdated(user.password_hash)) return undefined;
  return passwords.hash(password).catch(() => undefined);
}

interface Start {
  readonly client: Client;
  readonly newHash: string | undefined;
}

async function startSession(deps: Deps, verified: UserRow, { client, newHash }: Start): Promise<IssuedTokens> {
  const { user, stored } = await deps.store.transaction(async (tx) => {
    const user = await lockUser(tx, verified.id);
    // Hashing takes its time: the password may have been changed, or the account blocked, since it was read.
    if (user?.status !== 'active' || user.password_hash !== verified.password_hash) {
      throw new DomainError('invalid_credentials');
    }
    if (newHash !== undefined) await updateUser(tx, user.id, { password_hash: newHash });
    return { user, stored: await storeSession(deps, tx, { userId: user.id, client }) };
  });
  return signTokens(deps, user, stored);
}

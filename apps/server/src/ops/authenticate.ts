import { findApiKeyByHash, findUserForSession, touchApiKey, type UserRow } from '@vpn-api/db';
import type { Actor } from '../api/actor.ts';
import { isApiKey, sha256Hex } from '../crypto/random.ts';
import { DomainError } from '../domain/errors.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'accessTokens'>;

/** How stale `last_used_at` of a key may be; every call writing it would make each read a write. */
const TOUCH_SECONDS = 60;

/**
 * Who an `Authorization` header speaks for. Order: signature and claims (401), status (403), token version (401).
 * @throws DomainError `invalid_token`, `user_not_active`
 */
export async function authenticate(deps: Deps, authorization: string | undefined): Promise<Actor> {
  if (authorization === undefined) return { kind: 'public' };
  const [scheme, token, rest] = authorization.trim().split(/ +/);
  if (scheme?.toLowerCase() !== 'bearer' || rest !== undefined) throw new DomainError('not_authenticated');
  if (token === undefined) throw new DomainError('not_authenticated');
  return isApiKey(token) ? authenticateKey(deps, token) : authenticatePerson(deps, token);
}

async function authenticateKey({ store, clock }: Deps, key: string): Promise<Actor> {
  const row = await findApiKeyByHash(store, sha256Hex(key));
  const now = clock.now();
  if (row === undefined || row.revoked_at !== null) throw new DomainError('invalid_token');
  if (row.expires_at !== null && row.expires_at <= now) throw new DomainError('invalid_token');
  if (row.last_used_at === null || addSeconds(row.last_used_at as Instant, TOUCH_SECONDS) < now) {
    await touchApiKey(store, row.id, now);
  }
  return { kind: 'service', keyId: row.id, name: row.name, scopes: new Set(row.scopes) };
}

async function authenticatePerson({ store, accessTokens }: Deps, token: string): Promise<Actor> {
  const claims = await accessTokens.verify(token);
  if (claims === undefined) throw new DomainError('invalid_token');
  const found = await findUserForSession(store, claims.userId, claims.sessionId);
  if (found === undefined || found.user.removed_at !== null) throw new DomainError('invalid_token');
  assertActive(found.user);
  if (found.user.token_version !== claims.tokenVersion || found.sessionRevoked) throw new DomainError('invalid_token');
  return { kind: found.user.role, user: found.user, sessionId: claims.sessionId };
}

function assertActive(user: UserRow): void {
  if (user.status !== 'active') throw new DomainError('user_not_active');
}

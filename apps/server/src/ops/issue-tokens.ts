import { insertSession, type SessionRow, type Tx, type UserRow } from '@vpn-api/db';
import { newRefreshToken, sha256Hex } from '../crypto/random.ts';
import { addSeconds } from '../domain/instant.ts';
import type { Services } from '../services.ts';

export type TokenDeps = Pick<Services, 'config' | 'clock' | 'random' | 'accessTokens'>;

/** Where a session is used from, as its owner sees it in the list. */
export interface Client {
  readonly ip: string;
  readonly userAgent: string | undefined;
}

export interface IssuedTokens {
  readonly accessToken: string;
  readonly expiresInSeconds: number;
  readonly refreshToken: string;
  readonly refreshExpiresInSeconds: number;
}

/** A refresh token that is stored but not handed out yet. */
export interface StoredSession {
  readonly session: SessionRow;
  readonly refreshToken: string;
}

interface NewSession {
  readonly userId: number;
  readonly client: Client;
  /** Without it a new login begins. */
  readonly familyId?: number | undefined;
}

const MAX_USER_AGENT = 255;

export async function storeSession(
  { config, clock, random }: TokenDeps,
  tx: Tx,
  { userId, client, familyId }: NewSession,
): Promise<StoredSession> {
  const now = clock.now();
  const refreshToken = newRefreshToken(random);
  const session = await insertSession(tx, {
    user_id: userId,
    family_id: familyId ?? null,
    token_hash: sha256Hex(refreshToken),
    user_agent: client.userAgent?.slice(0, MAX_USER_AGENT) ?? null,
    ip: client.ip,
    created_at: now,
    expires_at: addSeconds(now, config.auth.refreshTokenSeconds),
  });
  return { session, refreshToken };
}

/** After the commit: signing waits for libuv's threads, and no lock should wait with it. */
export async function signTokens(
  { config, accessTokens }: TokenDeps,
  user: Pick<UserRow, 'id' | 'token_version'>,
  { session, refreshToken }: StoredSession,
): Promise<IssuedTokens> {
  const access = await accessTokens.sign({
    userId: user.id,
    sessionId: session.family_id ?? session.id,
    tokenVersion: user.token_version,
  });
  return {
    accessToken: access.token,
    expiresInSeconds: access.expiresInSeconds,
    refreshToken,
    refreshExpiresInSeconds: config.auth.refreshTokenSeconds,
  };
}

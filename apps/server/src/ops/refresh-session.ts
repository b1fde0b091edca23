import {
  findSession,
  findSessionByTokenHash,
  lockUser,
  replaceSuccessor,
  revokeFamily,
  type SessionRow,
  setSuccessor,
  type Tx,
  type UserRow,
  useSession,
} from '@vpn-api/db';
import { sha256Hex } from '../crypto/random.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import {
  type Client,
  type IssuedTokens,
  type StoredSession,
  signTokens,
  storeSession,
  type TokenDeps,
} from './issue-tokens.ts';

type Deps = TokenDeps & Pick<Services, 'store' | 'log'>;

/**
 * Exchanges a refresh token for new tokens; it works once. A repeat while its successor was never used replaces that
 * successor, since the answer may have been lost on its way. Any other reuse means that two parties hold the session, and
 * ends it for both.
 * @throws DomainError `invalid_refresh_token`
 */
export async function refreshSession(deps: Deps, refreshToken: string, client: Client): Promise<IssuedTokens> {
  const hash = sha256Hex(refreshToken);
  const known = await findSessionByTokenHash(deps.store, hash);
  if (known === undefined) throw new DomainError('invalid_refresh_token');
  // A reuse is refused after the commit: the family must stay revoked.
  const renewed = await deps.store.transaction(async (tx) => {
    // Under the user's lock refreshes, logouts and blocks of one account happen one after another.
    const user = await lockUser(tx, known.user_id);
    const session = await findSession(tx, known.id);
    if (user?.status !== 'active' || session === undefined) return undefined;
    if (session.expires_at <= deps.clock.now()) return undefined;
    return renew(deps, tx, { user, session, client });
  });
  if (renewed === undefined) throw new DomainError('invalid_refresh_token');
  return signTokens(deps, renewed.user, renewed.stored);
}

interface Renewal {
  readonly user: UserRow;
  readonly session: SessionRow;
  readonly client: Client;
}

interface Renewed {
  readonly user: UserRow;
  readonly stored: StoredSession;
}

async function renew(deps: Deps, tx: Tx, renewal: Renewal): Promise<Renewed | undefined> {
  const { user, session, client } = renewal;
  const at = deps.clock.now();
  const isFirstUse = (await useSession(tx, session.id, at)) !== undefined;
  const lost = isFirstUse ? undefined : await findUnusedSuccessor(tx, session);
  if (!isFirstUse && lost === undefined) {
    await endFamily(deps, tx, session);
    return undefined;
  }
  const stored = await storeSession(deps, tx, { userId: user.id, client, familyId: familyOf(session) });
  const newSuccessorId = stored.session.id;
  if (lost === undefined) await setSuccessor(tx, session.id, newSuccessorId);
  else await replaceSuccessor(tx, { id: session.id, oldSuccessorId: lost.id, newSuccessorId, at });
  return { user, stored };
}

/** What was handed out for a spent token, if nobody has used it and the session still lives. */
async function findUnusedSuccessor(tx: Tx, session: SessionRow): Promise<SessionRow | undefined> {
  if (session.revoked_at !== null || session.successor_id === null) return undefined;
  const successor = await findSession(tx, session.successor_id);
  return successor?.used_at === null && successor.revoked_at === null ? successor : undefined;
}

async function endFamily({ clock, log }: Deps, tx: Tx, session: SessionRow): Promise<void> {
  const familyId = familyOf(session);
  const cut = await revokeFamily(tx, familyId, clock.now());
  if (cut === 0) return;
  tx.onCommit(() => log.warn({ user_id: session.user_id, session_id: familyId }, 'a spent refresh token came again'));
}

function familyOf(session: SessionRow): number {
  return session.family_id ?? session.id;
}

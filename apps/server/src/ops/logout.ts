import { lockUser, revokeFamily, revokeUserSessions, type Tx, type UserRow, updateUser } from '@vpn-api/db';
import type { Services } from '../services.ts';

interface Logout {
  readonly userId: number;
  readonly sessionId: number;
  /** Every session of the account, not only the calling one. */
  readonly all: boolean;
}

/** Ends sessions at once: their refresh tokens, and the access tokens they gave out. */
export async function logout(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { userId, sessionId, all }: Logout,
): Promise<void> {
  const at = clock.now();
  await store.transaction(async (tx) => {
    const user = await lockUser(tx, userId);
    if (all && user !== undefined) await endAllSessions(tx, user, at);
    else await revokeFamily(tx, sessionId, at);
  });
}

/** Ends every session of an account and refuses every access token given out so far. The caller holds the user's lock. */
export async function endAllSessions(tx: Tx, user: Pick<UserRow, 'id' | 'token_version'>, at: string): Promise<void> {
  await revokeUserSessions(tx, user.id, { at });
  await updateUser(tx, user.id, { token_version: user.token_version + 1 });
}

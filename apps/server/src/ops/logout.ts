import { lockUser, revokeFamily, revokeUserSessions, type Tx, updateUser } from '@vpn-api/db';
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
    await lockUser(tx, userId);
    if (all) await endAllSessions(tx, userId, at);
    else await revokeFamily(tx, sessionId, at);
  });
}

/** Ends every session of an account and refuses every access token given out so far. The caller holds the user's lock. */
export async function endAllSessions(tx: Tx, userId: number, at: string): Promise<void> {
  await revokeUserSessions(tx, userId, { at });
  await updateUser(tx, userId, (eb) => ({ token_version: eb('token_version', '+', 1) }));
}

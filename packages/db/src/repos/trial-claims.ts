import type { Insertable } from 'kysely';
import type { TrialClaims } from '../schema.generated.ts';
import type { Tx } from '../store.ts';

export type NewTrialClaim = Omit<Insertable<TrialClaims>, 'id'>;

/** Answers false when the user, or whoever had this identity before him, has claimed a trial already. */
export async function insertTrialClaimOnce(tx: Tx, claim: NewTrialClaim): Promise<boolean> {
  const inserted = await tx.kysely
    .insertInto('trial_claims')
    .values(claim)
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .executeTakeFirst();
  return inserted !== undefined;
}

/**
 * Notes an identity that a user got after his trial, so that it outlives the account. One that another claim has already
 * is noted well enough.
 */
export async function completeTrialClaim(tx: Tx, userId: number, identityHash: string): Promise<void> {
  await tx.kysely
    .updateTable('trial_claims')
    .set({ identity_hash: identityHash })
    .where('user_id', '=', userId)
    .where('identity_hash', 'is', null)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb.selectFrom('trial_claims as other').select('other.id').where('other.identity_hash', '=', identityHash),
        ),
      ),
    )
    .execute();
}

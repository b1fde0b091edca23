import {
  findUserById,
  listPaymentFacts,
  listPeriodsForUser,
  lockUser,
  type Store,
  type Tx,
  updateFold,
} from '@vpn-api/db';
import { checkFold, checkPayments, checkTime, type Difference } from '../domain/books.ts';
import { DomainError } from '../domain/errors.ts';
import { foldPeriods } from '../domain/subscription.ts';

export interface Recomputed {
  /** What differed before anything was fixed. */
  readonly differences: readonly Difference[];
  /** What is left: without `fix` the same. Facts are never rewritten. */
  readonly remaining: readonly Difference[];
}

/**
 * Derives what one user has from his payments, refunds, events and grants, and compares it with what is stored. With
 * `fix` the derived columns of the periods (`starts_at`, `ends_at`, `grace_ends_at`) are written anew.
 * @throws DomainError `user_not_found`; a removed user is looked at too
 */
export async function recomputeUser(
  store: Store,
  { userId, fix }: { readonly userId: number; readonly fix: boolean },
): Promise<Recomputed> {
  if ((await findUserById(store, userId)) === undefined) throw new DomainError('user_not_found');
  return store.transaction(async (tx) => {
    await lockUser(tx, userId);
    const differences = await compare(tx, userId);
    if (!fix || differences.length === 0) return { differences, remaining: differences };
    await updateFold(tx, foldPeriods(await listPeriodsForUser(tx, userId)));
    return { differences, remaining: await compare(tx, userId) };
  });
}

async function compare(tx: Tx, userId: number): Promise<Difference[]> {
  const periods = await listPeriodsForUser(tx, userId);
  const payments = await listPaymentFacts(tx, [userId]);
  return [...checkPayments(periods, payments), ...checkTime(periods, payments), ...checkFold(periods)];
}

import {
  insertPeriod,
  listPeriodsForUser,
  lockUser,
  type Queryable,
  type SubscriptionPeriodRow,
  type Tx,
  updateFold,
  updateMovedSeconds,
  updatePeriodFacts,
  updatePeriodSeq,
} from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import {
  appendPeriod,
  type FoldedPeriod,
  foldPeriods,
  misplacedPeriods,
  type PeriodCut,
  type PeriodOrigin,
  type Placement,
  type TariffTerms,
} from '../domain/subscription.ts';

/** A user's periods in order, each with its place in time. */
export type Chain = readonly FoldedPeriod<SubscriptionPeriodRow>[];

export async function loadChain(q: Queryable, userId: number): Promise<Chain> {
  return foldPeriods(await listPeriodsForUser(q, userId));
}

/**
 * Takes the user's lock, without which a chain must not be changed.
 * @throws DomainError `user_not_found`, also for a removed one
 */
export async function lockChain(tx: Tx, userId: number): Promise<Chain> {
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  return loadChain(tx, userId);
}

interface Grant {
  readonly userId: number;
  readonly terms: TariffTerms;
  readonly origin: PeriodOrigin;
  readonly now: string;
}

/** Appends a period to the end of a chain. The caller holds the user's lock. */
export async function grantPeriod(
  tx: Tx,
  chain: Chain,
  { userId, terms, origin, now }: Grant,
): Promise<SubscriptionPeriodRow> {
  const period = appendPeriod(chain, { terms, origin, now });
  return insertPeriod(tx, { ...period, user_id: userId, created_at: now });
}

/**
 * Writes a grant and what makes room for it. Answers the period that was granted. The caller holds the user's lock.
 */
export async function insertPlacement(
  tx: Tx,
  { period, moves, requeued }: Placement,
  { userId, now }: { readonly userId: number; readonly now: string },
): Promise<SubscriptionPeriodRow> {
  const columns = { user_id: userId, created_at: now };
  for (const { period_id, seq } of requeued) await updatePeriodSeq(tx, period_id, seq);
  for (const { period_id, moved_seconds } of moves) await updateMovedSeconds(tx, period_id, moved_seconds);
  const granted = await insertPeriod(tx, { ...period, ...columns });
  for (const { rest } of moves) await insertPeriod(tx, { ...rest, ...columns });
  if (moves.length > 0 || requeued.length > 0)
    await updateFold(tx, misplacedPeriods(await listPeriodsForUser(tx, userId)));
  return granted;
}

/** Takes time from a period and moves those behind it forward. The caller holds the user's lock. */
export async function cutPeriod(tx: Tx, chain: Chain, periodId: number, cut: PeriodCut): Promise<void> {
  await updatePeriodFacts(tx, periodId, cut);
  const rows = chain.map((period) => (period.id === periodId ? { ...period, ...cut } : period));
  await updateFold(tx, misplacedPeriods(rows));
}

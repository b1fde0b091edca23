import type { SettlementAction, SettlementContext, SettlementSnapshot } from './settlement.ts';
import { type Apply, foldPeriods, hasLifetime, placeGrant } from './subscription.ts';

/** Why time must not be given to this user now, whatever was paid for it. */
export function findGrantObstacle(
  snapshot: Pick<SettlementSnapshot, 'user' | 'periods'>,
): 'user_removed' | 'already_lifetime' | undefined {
  if (snapshot.user.removed_at !== null) return 'user_removed';
  return hasLifetime(foldPeriods(snapshot.periods)) ? 'already_lifetime' : undefined;
}

/** The period that a payment buys, placed in its user's chain. */
export function grantFor(
  { payment, snapshot, now }: Pick<SettlementContext, 'payment' | 'snapshot' | 'now'>,
  grant: { readonly payment_id: number | null; readonly apply: Apply; readonly cut_seconds?: number },
): Extract<SettlementAction, { kind: 'grant_period' }> {
  const { terms, amount_minor: price_minor, currency } = payment;
  const { payment_id, ...placing } = grant;
  const origin = { source: 'payment', payment_id, price_minor, currency, reason: null } as const;
  return { kind: 'grant_period', payment_id, ...placeGrant(snapshot.periods, { terms, origin, now, ...placing }) };
}

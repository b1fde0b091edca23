import { listMatchedParkedEvents, lockEvent, type PaymentEventRow, type Store, type Tx } from '@vpn-api/db';
import type { Services } from '../services.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { eventOfRow } from './payment-inbox.ts';
import { findHintedPayment, followHint } from './receive-hint.ts';
import { recordDecision } from './record-event.ts';
import { settleEvent, settling } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store' | 'paymentPolls'>;

const BATCH = 100;

/**
 * Tries every parked event that can meet its payment by now: one made after the event came, or settled since. Answers how
 * many left the parking place. One that fails does not keep the others waiting.
 * @throws AggregateError of what failed, after all have been tried
 */
export async function settleParked(deps: Deps): Promise<number> {
  const errors: unknown[] = [];
  let settled = 0;
  for await (const eventId of matchedEventIds(deps.store)) {
    const left = await settleOne(deps, eventId).catch((error: unknown) => void errors.push(error));
    if (left === true) settled += 1;
  }
  if (errors.length > 0) throw new AggregateError(errors, `${errors.length} parked events could not be settled`);
  return settled;
}

async function* matchedEventIds(store: Store): AsyncGenerator<number> {
  let afterId = 0;
  for (;;) {
    const rows = await listMatchedParkedEvents(store, { afterId, limit: BATCH });
    yield* rows.map(({ id }) => id);
    const last = rows.at(-1);
    if (last === undefined || rows.length < BATCH) return;
    afterId = last.id;
  }
}

/** Answers whether it left the parking place. */
function settleOne(deps: Deps, eventId: number): Promise<boolean> {
  return settling(deps.store, async (tx) => {
    const row = await lockEvent(tx, eventId);
    if (row?.outcome !== 'parked') return false;
    if (row.is_hint === 1) return findPaymentOf(deps, tx, row);
    const event = eventOfRow(row);
    if (event === undefined) return false;
    const decision = await settleEvent(deps, tx, event);
    if (decision.outcome === 'parked') return false;
    await recordDecision(deps, tx, row, decision);
    return true;
  });
}

/** A hint stays where it is until its payment has been read back, but by now it may know which that is. */
async function findPaymentOf(deps: Deps, tx: Tx, hint: PaymentEventRow): Promise<false> {
  const payment = await findHintedPayment(tx, hint);
  if (payment !== undefined) await followHint(deps, tx, { hint, paymentId: payment.id });
  return false;
}

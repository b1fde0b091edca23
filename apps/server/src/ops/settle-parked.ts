import { listParkedEvents, lockEvent } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { eventOfRow, recordOutcome } from './payment-inbox.ts';
import { type SettleDeps, settleEvent } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store'>;

const BATCH = 100;

/**
 * Tries every parked event that can meet its payment by now: one made after the event came, or settled since. Answers how
 * many left the parking place.
 */
export async function settleParked(deps: Deps): Promise<number> {
  let settled = 0;
  let afterId = 0;
  for (;;) {
    const rows = await listParkedEvents(deps.store, { afterId, limit: BATCH });
    for (const row of rows) settled += await settleOne(deps, row.id);
    const last = rows.at(-1);
    if (last === undefined || rows.length < BATCH) return settled;
    afterId = last.id;
  }
}

async function settleOne(deps: Deps, eventId: number): Promise<0 | 1> {
  return deps.store.transaction(async (tx) => {
    const row = await lockEvent(tx, eventId);
    if (row?.outcome !== 'parked') return 0;
    const event = eventOfRow(row);
    if (event === undefined) return 0;
    const decision = await settleEvent(deps, tx, event);
    if (decision.outcome === 'parked') return 0;
    await recordOutcome(tx, eventId, { ...decision, now: deps.clock.now() });
    return 1;
  });
}

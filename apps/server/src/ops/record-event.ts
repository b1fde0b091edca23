import { insertEventOnce, type PaymentEventRow, postponePoll, recordPayer, type Tx } from '@vpn-api/db';
import { addSeconds, DAY_SECONDS } from '../domain/instant.ts';
import type { VerifiedEvent } from '../pay/provider.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { eventColumns, type Outcome, recordOutcome } from './payment-inbox.ts';
import { settleEvent } from './settle-payment.ts';

export interface ReceivedEvent {
  /** Name of the provider. */
  readonly name: string;
  readonly verified: VerifiedEvent;
  readonly raw: string;
}

export interface RecordedEvent {
  readonly outcome: PaymentEventRow['outcome'];
  readonly payment_id: number | null;
}

/**
 * Stores what a provider said, delivered or read back, with its effect in the caller's transaction. The insert comes
 * first: a repeat that runs at the same time waits on the unique index for the outcome of this one, and then finds
 * nothing left to do.
 */
export async function recordEvent(
  deps: SettleDeps,
  tx: Tx,
  { name, verified, raw }: ReceivedEvent,
): Promise<RecordedEvent> {
  const { dedupeKey, event, type } = verified;
  const now = deps.clock.now();
  const stored = await insertEventOnce(tx, {
    provider: name,
    dedupe_key: dedupeKey,
    type,
    ...eventColumns(event),
    raw: storable(raw),
    outcome: 'parked',
    received_at: now,
  });
  if (stored === undefined) return { outcome: 'duplicate', payment_id: null };
  const decision = event === undefined ? withoutEvent(verified) : await settleEvent(deps, tx, event);
  await recordDecision(deps, tx, stored, decision);
  // Its payment may have been committed since this transaction looked for it.
  if (decision.outcome === 'parked') tx.onCommit(() => deps.parkedEvents.wake());
  return decision;
}

type Decided = Omit<Outcome, 'now'>;

/** Writes what became of an event, now or later, and what follows for the payment beside its money. */
export async function recordDecision(
  { clock }: Pick<SettleDeps, 'clock'>,
  tx: Tx,
  event: PaymentEventRow,
  decision: Decided,
): Promise<void> {
  const now = clock.now();
  await recordOutcome(tx, event.id, { ...decision, now });
  if (decision.outcome !== 'settled' || decision.payment_id === null) return;
  // Known by this event, so the poll that would have found it out can wait for what comes later.
  await postponePoll(tx, decision.payment_id, addSeconds(now, DAY_SECONDS));
  const { provider, provider_payment_id: chargeId, payer_id: payerId } = event;
  if (chargeId !== null && payerId !== null) await recordPayer(tx, { provider, chargeId, payerId });
}

/** PostgreSQL stores no NUL. Such a body is no JSON, so only a person will ever read it. */
export function storable(raw: string): string {
  return raw.replaceAll('\0', '\u{fffd}').toWellFormed();
}

/** Authentic, but with nothing to settle: a type that is not ours, or a body that only a person can make sense of. */
function withoutEvent({ malformed }: VerifiedEvent): Decided {
  return malformed === undefined
    ? { outcome: 'ignored', reason: 'type_unknown', payment_id: null }
    : { outcome: 'held', reason: `malformed: ${malformed}`, payment_id: null };
}

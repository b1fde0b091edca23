import { findEvent, findPayment, lockEvent, type PaymentEventRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { SettlementEvent } from '../domain/settlement.ts';
import type { Services } from '../services.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { type AuditSource, audit } from './audit.ts';
import { eventOfRow, recordOutcome } from './payment-inbox.ts';
import { settleEvent, settling } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store'>;

interface AttachEvent {
  readonly eventId: number;
  readonly paymentId: number;
  readonly source: AuditSource;
}

/**
 * Settles a held or parked event against the payment that an admin names. The rules on sender, charge and amount still
 * hold: what contradicts them stays held.
 * @throws DomainError `event_not_found`, `event_not_open`, `payment_not_found`
 */
export async function attachEvent(deps: Deps, { eventId, paymentId, source }: AttachEvent): Promise<PaymentEventRow> {
  const now = deps.clock.now();
  return settling(deps.store, async (tx) => {
    const { event, row } = await lockOpenEvent(tx, eventId);
    if ((await findPayment(tx, paymentId)) === undefined) throw new DomainError('payment_not_found');
    const decision = await settleEvent(deps, tx, event, paymentId);
    await recordOutcome(tx, eventId, { ...decision, now });
    const details = { event_id: eventId, outcome: decision.outcome, reason: decision.reason ?? null };
    await audit(tx, { ...source, at: now, action: 'payment.attach_event', target: `payment:${paymentId}`, details });
    return (await findEvent(tx, eventId)) ?? row;
  });
}

async function lockOpenEvent(tx: Tx, id: number): Promise<{ event: SettlementEvent; row: PaymentEventRow }> {
  const row = await lockEvent(tx, id);
  if (row === undefined) throw new DomainError('event_not_found');
  const event = eventOfRow(row);
  const isOpen = row.outcome === 'held' || row.outcome === 'parked';
  if (event === undefined || !isOpen) throw new DomainError('event_not_open');
  return { event, row };
}

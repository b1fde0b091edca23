import { findPayment, lockEvent, type PaymentEventRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { eventOfRow, recordOutcome } from './payment-inbox.ts';
import { type SettleDeps, settleEvent } from './settle-payment.ts';

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
  return deps.store.transaction(async (tx) => {
    const row = await lockEvent(tx, eventId);
    if (row === undefined) throw new DomainError('event_not_found');
    const event = eventOfRow(row);
    if (event === undefined || (row.outcome !== 'held' && row.outcome !== 'parked')) throw new DomainError('event_not_open');
    if ((await findPayment(tx, paymentId)) === undefined) throw new DomainError('payment_not_found');
    const decision = await settleEvent(deps, tx, event, paymentId);
    await recordOutcome(tx, eventId, { ...decision, now });
    const details = { event_id: eventId, outcome: decision.outcome, reason: decision.reason ?? null };
    await audit(tx, { ...source, at: now, action: 'payment.attach_event', target: `payment:${paymentId}`, details });
    return (await lockEvent(tx, eventId)) as PaymentEventRow;
  });
}

import { findEvent, findPayment, lockEvent, type PaymentEventRow, type PaymentRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { type AuditSource, audit } from './audit.ts';
import { eventOfRow } from './payment-inbox.ts';
import { followHint } from './receive-hint.ts';
import { recordDecision } from './record-event.ts';
import { settleEvent, settling } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store' | 'paymentPolls'>;

interface AttachEvent {
  readonly eventId: number;
  readonly paymentId: number;
  readonly source: AuditSource;
}

/**
 * Settles a held or parked event against the payment that an admin names. The rules on sender, charge and amount still
 * hold: what contradicts them stays held. A hint makes the provider be asked about that payment.
 * @throws DomainError `event_not_found`, `event_not_open`, `payment_not_found`, `payment_conflict` for a hint of another
 * provider
 */
export async function attachEvent(deps: Deps, { eventId, paymentId, source }: AttachEvent): Promise<PaymentEventRow> {
  const now = deps.clock.now();
  return settling(deps.store, async (tx) => {
    const row = await lockOpenEvent(tx, eventId);
    const payment = await findPayment(tx, paymentId);
    if (payment === undefined) throw new DomainError('payment_not_found');
    if (row.is_hint === 1) await attachHint(deps, tx, row, payment);
    else await settleAttached(deps, tx, row, payment);
    const attached = (await findEvent(tx, eventId)) ?? row;
    const details = { event_id: eventId, outcome: attached.outcome, reason: attached.reason };
    await audit(tx, { ...source, at: now, action: 'payment.attach_event', target: `payment:${paymentId}`, details });
    return attached;
  });
}

async function lockOpenEvent(tx: Tx, id: number): Promise<PaymentEventRow> {
  const row = await lockEvent(tx, id);
  if (row === undefined) throw new DomainError('event_not_found');
  const isOpen = row.outcome === 'held' || row.outcome === 'parked';
  if (!isOpen || (row.is_hint === 0 && row.action === null)) throw new DomainError('event_not_open');
  return row;
}

async function settleAttached(deps: Deps, tx: Tx, row: PaymentEventRow, { id }: PaymentRow): Promise<void> {
  const event = eventOfRow(row);
  if (event === undefined) throw new DomainError('event_not_open');
  await recordDecision(deps, tx, row, await settleEvent(deps, tx, event, id));
}

async function attachHint(deps: Deps, tx: Tx, hint: PaymentEventRow, payment: PaymentRow): Promise<void> {
  if (payment.provider !== hint.provider) throw new DomainError('payment_conflict');
  await followHint(deps, tx, { hint, paymentId: payment.id });
}

import { type PaymentEventRow, type Tx, updateEventOutcome } from '@vpn-api/db';
import type { SettlementEvent } from '../domain/settlement.ts';

/** What an inbox row needs so that the event can be settled later exactly as it would have been on arrival. */
export function eventColumns(event: SettlementEvent | undefined) {
  return {
    action: event?.type ?? null,
    reference: event?.reference ?? null,
    claimed_payment_id: event?.paymentId ?? null,
    provider_payment_id: event?.chargeId ?? null,
    provider_refund_id: event?.refundId ?? null,
    amount_minor: event?.amountMinor ?? null,
    currency: event?.currency ?? null,
    renewal: event?.renewal === true ? 1 : 0,
    payer_id: event?.payerId ?? null,
  };
}

/** The event of a stored row; undefined when there was nothing to settle in it. */
export function eventOfRow(row: PaymentEventRow): SettlementEvent | undefined {
  if (row.action === null) return undefined;
  return {
    provider: row.provider,
    type: row.action,
    reference: row.reference ?? undefined,
    paymentId: row.claimed_payment_id ?? undefined,
    chargeId: row.provider_payment_id ?? undefined,
    refundId: row.provider_refund_id ?? undefined,
    amountMinor: row.amount_minor ?? undefined,
    currency: row.currency ?? undefined,
    renewal: row.renewal === 1,
    payerId: row.payer_id ?? undefined,
  };
}

export interface Outcome {
  readonly outcome: PaymentEventRow['outcome'];
  readonly reason?: string | undefined;
  readonly payment_id: number | null;
  readonly now: string;
}

export async function recordOutcome(tx: Tx, eventId: number, decided: Outcome): Promise<void> {
  const { outcome, reason, payment_id, now } = decided;
  await updateEventOutcome(tx, eventId, { outcome, reason: reason ?? null, payment_id, processed_at: now });
}

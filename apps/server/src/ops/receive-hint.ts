import {
  findEventByDedupeKey,
  findPaymentByCharge,
  findPaymentByReference,
  insertEventOnce,
  lockEvent,
  type PaymentEventRow,
  type PaymentRow,
  type Queryable,
  requestPoll,
  type Tx,
  updateEventOutcome,
} from '@vpn-api/db';
import type { Instant } from '../domain/instant.ts';
import type { Hint } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { storable } from './record-event.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'paymentPolls'>;

interface ReceivedHint {
  readonly name: string;
  readonly hint: Hint;
  readonly raw: string;
}

/**
 * Keeps a delivery that proves nothing by itself, and has the payment it names read back from the provider. A repeat has
 * it read again while the payment is open, or when the first was not followed up or not confirmed. One that names no
 * payment of ours stays parked until there is one.
 */
export async function receiveHint(deps: Deps, received: ReceivedHint): Promise<'parked' | 'duplicate'> {
  return deps.store.transaction(async (tx) => {
    const { row, isNew } = await keepHint(deps, tx, received);
    const payment = await findHintedPayment(tx, row);
    const isOver = !isNew && isFollowedUp(row) && (payment === undefined || !isUnsettled(payment));
    if (isOver) return 'duplicate';
    if (payment !== undefined) await followHint(deps, tx, { hint: row, paymentId: payment.id });
    // Its provider may know which payment it means.
    else tx.onCommit(() => deps.paymentPolls.wake());
    return 'parked';
  });
}

async function keepHint(
  { clock }: Deps,
  tx: Tx,
  { name, hint, raw }: ReceivedHint,
): Promise<{ row: PaymentEventRow; isNew: boolean }> {
  // Apart from the keys of events: the object read back must not be taken for a repeat of the notice about it.
  const dedupeKey = `hint:${hint.dedupeKey}`;
  const inserted = await insertEventOnce(tx, {
    provider: name,
    dedupe_key: dedupeKey,
    type: hint.type,
    reference: hint.reference ?? null,
    provider_payment_id: hint.chargeId ?? null,
    provider_refund_id: hint.refundId ?? null,
    raw: storable(raw),
    outcome: 'parked',
    reason: 'hint',
    is_hint: 1,
    received_at: clock.now(),
  });
  if (inserted !== undefined) return { row: inserted, isNew: true };
  const known = await findEventByDedupeKey(tx, name, dedupeKey);
  const row = known && (await lockEvent(tx, known.id));
  if (row === undefined) throw new Error('a stored hint has vanished');
  return { row, isNew: false };
}

/** The payment of the charge, else of the reference. A reference that another provider's payment has finds nothing. */
export async function findHintedPayment(q: Queryable, hint: PaymentEventRow): Promise<PaymentRow | undefined> {
  const { provider, provider_payment_id: chargeId, reference } = hint;
  const byCharge = chargeId === null ? undefined : await findPaymentByCharge(q, provider, chargeId);
  if (byCharge !== undefined) return byCharge;
  const byReference = reference === null ? undefined : await findPaymentByReference(q, reference);
  return byReference?.provider === provider ? byReference : undefined;
}

/** Why a hint was dropped that its provider never confirmed; its repeat deserves another look. */
export const NOT_CONFIRMED = 'not_confirmed';

function isFollowedUp({ outcome, reason }: PaymentEventRow): boolean {
  return outcome !== 'parked' && reason !== NOT_CONFIRMED;
}

function isUnsettled({ status }: PaymentRow): boolean {
  return status === 'pending' || status === 'failed';
}

/** Ties a hint to its payment and has that read back now. */
export async function followHint(
  { clock, paymentPolls }: Omit<Deps, 'store'>,
  tx: Tx,
  { hint, paymentId }: { readonly hint: PaymentEventRow; readonly paymentId: number },
): Promise<void> {
  const now: Instant = clock.now();
  await updateEventOutcome(tx, hint.id, {
    outcome: 'parked',
    reason: 'hint',
    payment_id: paymentId,
    processed_at: null,
  });
  await requestPoll(tx, paymentId, now);
  tx.onCommit(() => paymentPolls.wake());
}

import type { Insertable, Selectable } from 'kysely';
import type { PaymentEvents } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { countOf, DEFAULT_LIMIT, given, onPage, type Page } from './page.ts';

/** One verified delivery of a provider: the inbox. */
export type PaymentEventRow = Selectable<PaymentEvents>;
export type NewPaymentEvent = Omit<Insertable<PaymentEvents>, 'id'>;

export interface EventFilter {
  readonly outcome?: PaymentEventRow['outcome'] | undefined;
  readonly provider?: string | undefined;
  readonly paymentId?: number | undefined;
  readonly isHint?: boolean | undefined;
}

/** Undefined when the provider delivered it before: this row is what makes a duplicate harmless. */
export function insertEventOnce(q: Queryable, event: NewPaymentEvent): Promise<PaymentEventRow | undefined> {
  return q.kysely
    .insertInto('payment_events')
    .values(event)
    .onConflict((conflict) => conflict.columns(['provider', 'dedupe_key']).doNothing())
    .returningAll()
    .executeTakeFirst();
}

export function findEvent(q: Queryable, id: number): Promise<PaymentEventRow | undefined> {
  return q.kysely.selectFrom('payment_events').selectAll().where('id', '=', id).executeTakeFirst();
}

export function findEventByDedupeKey(
  q: Queryable,
  provider: string,
  dedupeKey: string,
): Promise<PaymentEventRow | undefined> {
  return q.kysely
    .selectFrom('payment_events')
    .selectAll()
    .where('provider', '=', provider)
    .where('dedupe_key', '=', dedupeKey)
    .executeTakeFirst();
}

/** The delivery that settled this charge: what it says of the amount is what really came. */
export function findSettledCharge(
  q: Queryable,
  provider: string,
  chargeId: string,
): Promise<PaymentEventRow | undefined> {
  return q.kysely
    .selectFrom('payment_events')
    .selectAll()
    .where('provider', '=', provider)
    .where('provider_payment_id', '=', chargeId)
    .where('action', '=', 'completed')
    .where('outcome', '=', 'settled')
    .orderBy('id')
    .limit(1)
    .executeTakeFirst();
}

export type DisputeAction = 'disputed' | 'dispute_won' | 'dispute_lost';

/** What was acted upon about disputes of a payment, in the order it came. */
export async function listDisputeEvents(
  q: Queryable,
  paymentId: number,
): Promise<{ readonly action: DisputeAction; readonly dispute_id: string | null }[]> {
  const rows = await q.kysely
    .selectFrom('payment_events')
    .select(['action', 'provider_refund_id as dispute_id'])
    .where('payment_id', '=', paymentId)
    .where('action', 'in', ['disputed', 'dispute_won', 'dispute_lost'])
    .where('outcome', '=', 'settled')
    .orderBy('id')
    .execute();
  return rows as { action: DisputeAction; dispute_id: string | null }[];
}

/** Keeps two attempts to settle one parked event apart. */
export function lockEvent(tx: Tx, id: number): Promise<PaymentEventRow | undefined> {
  return tx.kysely
    .selectFrom('payment_events')
    .selectAll()
    .where('id', '=', id)
    .modifyEnd(tx.dialect.forUpdate)
    .executeTakeFirst();
}

export type EventOutcomePatch = Pick<PaymentEventRow, 'outcome' | 'reason' | 'payment_id' | 'processed_at'>;

export async function updateEventOutcome(q: Queryable, id: number, outcome: EventOutcomePatch): Promise<void> {
  await q.kysely.updateTable('payment_events').set(outcome).where('id', '=', id).execute();
}

/**
 * Parked events whose payment exists by now, those that wait longest first; `afterId` goes on where it stopped. The
 * others cannot be settled, however often they are tried.
 */
export function listMatchedParkedEvents(q: Queryable, page: Page = {}): Promise<PaymentEventRow[]> {
  return (
    parked(q)
      .where('id', '>', page.afterId ?? 0)
      // A hint that knows its payment waits for the provider's answer.
      .where((eb) => eb.or([eb('is_hint', '=', 0), eb('payment_id', 'is', null)]))
      .where((eb) => {
        const payments = eb.selectFrom('payments').select('payments.id');
        const byReference = payments.whereRef('payments.reference', '=', 'payment_events.reference');
        const byCharge = payments
          .whereRef('payments.provider', '=', 'payment_events.provider')
          .whereRef('payments.provider_payment_id', '=', 'payment_events.provider_payment_id');
        return eb.or([eb.exists(byReference), eb.exists(byCharge)]);
      })
      .limit(page.limit ?? DEFAULT_LIMIT)
      .execute()
  );
}

/** Hints about this payment that wait for it to be read back, in the order of their arrival. */
export function listWaitingHints(q: Queryable, paymentId: number): Promise<PaymentEventRow[]> {
  return parked(q).where('is_hint', '=', 1).where('payment_id', '=', paymentId).execute();
}

/** Hints of these providers that name no payment, and that their providers were not asked about yet. */
export function listNamelessHints(
  q: Queryable,
  providers: readonly string[],
  limit: number,
): Promise<PaymentEventRow[]> {
  if (providers.length === 0) return Promise.resolve([]);
  return parked(q)
    .where('is_hint', '=', 1)
    .where('payment_id', 'is', null)
    .where('processed_at', 'is', null)
    .where('provider', 'in', providers)
    .limit(limit)
    .execute();
}

export function listEvents(q: Queryable, filter: EventFilter = {}, page: Page = {}): Promise<PaymentEventRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countEvents(q: Queryable, filter: EventFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

function parked(q: Queryable) {
  return q.kysely.selectFrom('payment_events').selectAll().where('outcome', '=', 'parked').orderBy('id');
}

function matching(q: Queryable, { outcome, provider, paymentId, isHint }: EventFilter) {
  const is_hint = isHint === undefined ? undefined : Number(isHint);
  const same = given({ outcome, provider, payment_id: paymentId, is_hint });
  return q.kysely.selectFrom('payment_events').where((eb) => eb.and(same));
}

import type { PaymentRow, SubscriptionPeriodRow, Tx } from '@vpn-api/db';
import type { PaymentEventData, SubscriptionEventData } from '../domain/events.ts';
import { addSeconds } from '../domain/instant.ts';
import { formatAmount } from '../domain/money.ts';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';

type Deps = Pick<Services, 'clock' | 'outbox'>;

/** Tells what became of a payment: the row as it is now. */
export async function tellPayment(
  deps: Deps,
  tx: Tx,
  type: 'payment.completed' | 'payment.refunded' | 'payment.needs_review',
  payment: PaymentRow,
): Promise<void> {
  await emitEvent(deps, tx, { type, userId: payment.user_id, data: paymentEventData(payment) });
}

export function paymentEventData(payment: PaymentRow): PaymentEventData {
  const { currency, refunded_minor, review_reason } = payment;
  return {
    payment_id: payment.id,
    reference: payment.reference,
    user_id: payment.user_id,
    tariff_id: payment.tariff_id,
    amount: formatAmount(payment.amount_minor, currency),
    currency,
    status: payment.status,
    provider: payment.provider,
    provider_payment_id: payment.provider_payment_id,
    ...(refunded_minor > 0 ? { refunded_amount: formatAmount(refunded_minor, currency) } : {}),
    ...(review_reason === null ? {} : { review_reason }),
  };
}

/** Periods begin with the next whole second of the one they cut short, so "at once" may be up to a second away. */
const AT_ONCE_SECONDS = 1;

/** Tells of a period that was granted: one in force from now on is a start, one that waits its turn an extension. */
export async function tellPeriod(deps: Deps, tx: Tx, period: SubscriptionPeriodRow): Promise<void> {
  const isAtOnce = period.starts_at <= addSeconds(period.granted_at, AT_ONCE_SECONDS);
  await emitEvent(deps, tx, {
    type: isAtOnce ? 'subscription.started' : 'subscription.extended',
    userId: period.user_id,
    data: subscriptionEventData(period),
  });
}

export function subscriptionEventData(period: SubscriptionPeriodRow): SubscriptionEventData {
  const { user_id, tariff_id, id: period_id, starts_at, ends_at, source } = period;
  return { user_id, tariff_id, period_id, starts_at, ends_at, source };
}

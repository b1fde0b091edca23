import type { PaymentEventRow, PaymentRow } from '@vpn-api/db';
import type { z } from 'zod';
import { formatAmount, isCurrency } from '../../domain/money.ts';
import { checkoutOf } from '../../ops/payment-checkout.ts';
import type { PaymentProvider } from '../../pay/provider.ts';
import type { paymentEventSchema, paymentSchema } from './schemas.ts';

type Providers = ReadonlyMap<string, PaymentProvider>;

export function paymentView(payment: PaymentRow, providers: Providers): z.output<typeof paymentSchema> {
  return {
    id: payment.id,
    reference: payment.reference,
    parent_id: payment.parent_id,
    user_id: payment.user_id,
    tariff_id: payment.tariff_id,
    amount: money(payment.amount_minor, payment.currency),
    currency: payment.currency,
    status: payment.status,
    refunded_amount: money(payment.refunded_minor, payment.currency),
    review_reason: payment.review_reason,
    disputed_at: payment.disputed_at,
    provider: payment.provider,
    provider_payment_id: payment.provider_payment_id,
    created_at: payment.created_at,
    completed_at: payment.completed_at,
    checkout: checkoutOf(payment, providers.get(payment.provider)),
  };
}

function money(minor: number, currency: string): string {
  return formatAmount(minor, currency);
}

export function paymentEventView(event: PaymentEventRow): z.output<typeof paymentEventSchema> {
  const { amount_minor, currency } = event;
  return {
    id: event.id,
    provider: event.provider,
    type: event.type,
    reference: event.reference,
    provider_payment_id: event.provider_payment_id,
    amount: amount_minor !== null && currency !== null && isCurrency(currency) ? money(amount_minor, currency) : null,
    currency,
    outcome: event.outcome,
    reason: event.reason,
    payment_id: event.payment_id,
    received_at: event.received_at,
    processed_at: event.processed_at,
  };
}

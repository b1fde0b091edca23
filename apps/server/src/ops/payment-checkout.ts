import type { PaymentRow } from '@vpn-api/db';
import { formatAmount } from '../domain/money.ts';
import type { TariffTerms } from '../domain/subscription.ts';
import type { Checkout, CheckoutRequest, PaymentProvider } from '../pay/provider.ts';

/** What a provider needs to know to be paid. The description is the tariff's, where the caller has it. */
export function checkoutRequestOf(payment: PaymentRow, description: string | null = null): CheckoutRequest {
  const { tariff_name } = JSON.parse(payment.tariff_snapshot) as TariffTerms;
  return {
    reference: payment.reference,
    amount: formatAmount(payment.amount_minor, payment.currency),
    amountMinor: payment.amount_minor,
    currency: payment.currency,
    title: tariff_name,
    description,
    returnUrl: payment.return_url,
  };
}

/** How a payment can be paid now; null when it is decided, or has no checkout of ours. */
export function checkoutOf(payment: PaymentRow, provider: PaymentProvider | undefined): Checkout | null {
  if (payment.status !== 'pending') return null;
  if (payment.checkout !== null) return JSON.parse(payment.checkout) as Checkout;
  return provider?.describeCheckout?.(checkoutRequestOf(payment)) ?? null;
}

import type { PaymentStatus } from './payment.ts';
import type { Money } from './settlement.ts';

/** What is looked at when a provider asks whether a customer may pay now. */
export interface CheckoutFacts {
  /** Undefined when the reference names no payment of that provider. */
  readonly payment: (Money & { readonly status: PaymentStatus }) | undefined;
  readonly user: { readonly status: string; readonly removed_at: string | null } | undefined;
  readonly tariff: { readonly archived_at: string | null } | undefined;
  readonly hasLifetime: boolean;
}

/**
 * Why the customer must not pay, in words for the customer; undefined when nothing speaks against it. Only a courtesy:
 * money that comes all the same is settled or goes to a person.
 */
export function refuseCheckout(
  { payment, user, tariff, hasLifetime }: CheckoutFacts,
  asked: Money,
): string | undefined {
  if (payment === undefined) return 'This invoice is not known. Please ask for a new one.';
  if (payment.status === 'failed') return 'This invoice is no longer open. Please ask for a new one.';
  if (payment.status !== 'pending') return 'This invoice was paid already.';
  if (payment.currency !== asked.currency || payment.amount_minor !== asked.amount_minor) {
    return 'The price of this invoice is not right. Please ask for a new one.';
  }
  if (user?.status !== 'active' || user.removed_at !== null) return 'This account cannot buy at the moment.';
  if (tariff === undefined || tariff.archived_at !== null) return 'This tariff is no longer sold.';
  return hasLifetime ? 'Your subscription never ends: there is nothing to add.' : undefined;
}

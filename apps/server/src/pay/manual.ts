import type { PaymentProvider } from './provider.ts';

/** Cash, bank transfer, anything outside: an admin confirms with `payment.resolve`. It has no webhook. */
export const manualProvider: PaymentProvider = {
  name: 'manual',
  checkoutType: 'manual',
  describeCheckout: ({ reference, amount, currency }) => ({
    type: 'manual',
    instructions: `Pay ${amount} ${currency} as agreed with the operator and name the reference ${reference}.`,
  }),
};

import type { SettlementEvent } from '../../src/domain/settlement.ts';
import type { PaymentProvider } from '../../src/pay/provider.ts';

/** What a {@link chaosProvider} is told: any event there is, under any id. */
export interface ChaosDelivery extends Omit<SettlementEvent, 'provider'> {
  readonly id: string;
}

/** A provider that believes everybody and can say everything that any provider says. */
export const chaosProvider: PaymentProvider = {
  name: 'chaos',
  checkoutType: 'external',
  authenticatesBy: 'signature',
  verify: ({ raw }) => {
    const { id, ...event } = JSON.parse(raw) as ChaosDelivery;
    return { kind: 'event', dedupeKey: id, type: event.type, event: { provider: 'chaos', ...event } };
  },
};

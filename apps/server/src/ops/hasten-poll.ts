import { hastenPoll, type PaymentRow } from '@vpn-api/db';
import { addSeconds } from '../domain/instant.ts';
import type { Services } from '../services.ts';

/**
 * However often a customer's page asks, the provider is asked no more often than this: somebody who comes back from
 * paying waits no longer for what he paid for, and a page left open costs little.
 */
const SOON_SECONDS = 2;

/** Somebody looks at a payment that is still open: what became of it is worth asking now. Does not wait for the answer. */
export async function hastenLookedAt(
  { store, clock, paymentPolls }: Pick<Services, 'store' | 'clock' | 'paymentPolls'>,
  payment: PaymentRow,
): Promise<void> {
  const soon = addSeconds(clock.now(), SOON_SECONDS);
  if (payment.status !== 'pending' || payment.poll_at === null || payment.poll_at <= soon) return;
  if (await hastenPoll(store, payment.id, soon)) paymentPolls.wake();
}

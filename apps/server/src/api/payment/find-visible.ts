import { findPayment, type PaymentRow, type Store } from '@vpn-api/db';
import { DomainError } from '../../domain/errors.ts';
import { type AccountActor, maySee } from '../actor.ts';

/** @throws DomainError `payment_not_found`, also for another's payment */
export async function getVisiblePayment(store: Store, caller: AccountActor, paymentId: number): Promise<PaymentRow> {
  const payment = await findPayment(store, paymentId);
  if (payment === undefined || !maySee(caller, payment.user_id)) throw new DomainError('payment_not_found');
  return payment;
}

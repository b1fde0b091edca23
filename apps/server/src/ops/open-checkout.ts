import { findPayment, findTariff, isUniqueViolation, type PaymentRow, storeCheckout } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import { type CreatedCheckout, type PaymentProvider, ProviderError } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { checkoutRequestOf } from './payment-checkout.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'providers' | 'parkedEvents' | 'log' | 'metrics'>;

/** Longer than a provider that works ever takes, shorter than clients wait for an answer. */
const CHECKOUT_MS = 10_000;
const RETRY_AFTER_SECONDS = 5;

/**
 * Opens a payment at its provider unless that was done, with no transaction open. Whatever goes wrong, the payment stays
 * as it is: it is polled, and a repeat of the call tries again.
 * @throws DomainError `provider_refused`, `provider_unavailable`, `payment_conflict`
 */
export async function openCheckout(deps: Deps, payment: PaymentRow): Promise<PaymentRow> {
  const provider = deps.providers.get(payment.provider);
  if (provider?.createCheckout === undefined || !isWaiting(payment)) return payment;
  const tariff = await findTariff(deps.store, payment.tariff_id);
  try {
    const request = checkoutRequestOf(payment, tariff?.description ?? null);
    const created = await provider.createCheckout(request, AbortSignal.timeout(CHECKOUT_MS));
    deps.metrics.countProviderCall({ provider: provider.name, call: 'checkout', result: 'ok' });
    return await keepCheckout(deps, payment, created);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return afterFailure(deps, provider, { payment, error });
  }
}

/** The answer of a repeated call: the payment as it is by now. */
export async function reopenCheckout(deps: Deps, paymentId: number): Promise<PaymentRow> {
  return openCheckout(deps, await getPayment(deps, paymentId));
}

/** A payment that names its charge was opened at the provider by whoever made it. */
function isWaiting({ status, checkout, provider_payment_id }: PaymentRow): boolean {
  return status === 'pending' && checkout === null && provider_payment_id === null;
}

/** Of two calls at once the first one's checkout is kept, and both answer it. */
async function keepCheckout(deps: Deps, { id }: PaymentRow, created: CreatedCheckout): Promise<PaymentRow> {
  const { chargeId } = created;
  const stored = { checkout: JSON.stringify(created.checkout), chargeId, now: deps.clock.now() };
  try {
    const payment = await storeCheckout(deps.store, id, stored);
    // What the provider said about this charge before we knew its name waits for us.
    if (payment !== undefined && chargeId !== null) deps.parkedEvents.wake();
    return payment ?? (await getPayment(deps, id));
  } catch (error) {
    if (isUniqueViolation(error) !== 'payments(provider, provider_payment_id)') throw error;
    throw new DomainError('payment_conflict', { cause: error });
  }
}

interface Failure {
  readonly payment: PaymentRow;
  readonly error: ProviderError;
}

/** Another call may have opened it, or the money may have come meanwhile. */
async function afterFailure(deps: Deps, provider: PaymentProvider, { payment, error }: Failure): Promise<PaymentRow> {
  deps.metrics.countProviderCall({ provider: provider.name, call: 'checkout', result: error.kind });
  const current = await getPayment(deps, payment.id);
  if (!isWaiting(current)) return current;
  deps.log.warn({ provider: provider.name, payment_id: payment.id, err: error }, 'a checkout could not be opened');
  if (error.kind === 'refused') throw new DomainError('provider_refused', { cause: error });
  throw new DomainError('provider_unavailable', { cause: error, retryAfterSeconds: RETRY_AFTER_SECONDS });
}

async function getPayment({ store }: Deps, id: number): Promise<PaymentRow> {
  const payment = await findPayment(store, id);
  if (payment === undefined) throw new DomainError('payment_not_found');
  return payment;
}

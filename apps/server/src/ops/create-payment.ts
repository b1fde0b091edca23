import {
  countPayments,
  findOpenPayment,
  findPaymentByCharge,
  insertPayment,
  isUniqueViolation,
  lockUser,
  type PaymentRow,
  type Tx,
} from '@vpn-api/db';
import { type AccountActor, ownerFor } from '../api/actor.ts';
import { newReference } from '../crypto/random.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import { addSeconds, DAY_SECONDS, type Instant } from '../domain/instant.ts';
import { firstPollAt } from '../domain/polling.ts';
import { hasLifetime } from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { getUserToActFor } from './act-for-user.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import { hastenLookedAt } from './hasten-poll.ts';
import { openCheckout } from './open-checkout.ts';
import { type Quote, type QuoteRequest, quotePayment } from './payment-quote.ts';
import { loadChain } from './subscription-chain.ts';
import { asSaleError, termsOf } from './tariff-terms.ts';

type Deps = Pick<
  Services,
  'store' | 'clock' | 'random' | 'providers' | 'config' | 'parkedEvents' | 'paymentPolls' | 'log' | 'metrics'
>;

export interface CreatePayment extends QuoteRequest {
  readonly return_url?: string | null | undefined;
  readonly user_id?: number | null | undefined;
  readonly provider_payment_id?: string | null | undefined;
  /** What another tariff than the running one does: start at once (the default), or follow it. */
  readonly apply?: 'now' | 'extend' | null | undefined;
}

/**
 * A customer pays one of them. Those that are older than a day do not count, as nobody else would ever close them and
 * their money may still come; services and admins open payments for many users and have no limit.
 */
const MAX_OPEN_PAYMENTS = 5;

/**
 * Opens a payment with the price as it is now, first here and then at its provider. A repeat answers the open payment of
 * the same user, provider and quote, or with a charge id the payment of that very charge, and goes on where the first
 * call stopped: a payment whose provider could not be reached stays open and gets its checkout then.
 * @throws DomainError `tariff_not_found`, `tariff_required`, `tariff_archived`, `price_mismatch`, `currency_not_sold`,
 * `already_lifetime`, `too_many_open_payments`, `payment_conflict`, `provider_not_found`, `return_url_not_allowed`,
 * `user_not_found`, `not_allowed`, `validation_failed`, `provider_refused`, `provider_unavailable`
 */
export async function createPayment(
  deps: Deps,
  input: CreatePayment,
  committing: Committing<PaymentRow>,
): Promise<PaymentRow> {
  checkReturnUrl(deps, input.return_url);
  const userId = await customerOf(deps, input);
  const quote = await quotePayment(deps, input);
  const opening: Opening = { input, userId, quote, chargeId: chargeIdOf(input), now: deps.clock.now() };
  try {
    const payment = await deps.store.transaction((tx) => openPayment(deps, tx, opening, committing));
    // Asked for again: it may have been paid, or its checkout closed, and nobody told us.
    if (payment.created_at !== opening.now) await hastenLookedAt(deps, payment);
    return await openCheckout(deps, payment);
  } catch (error) {
    throw asOpeningError(deps, error);
  }
}

function checkReturnUrl({ config }: Deps, returnUrl: string | null | undefined): void {
  if (returnUrl == null) return;
  const own = config.publicUrl === undefined ? [] : [new URL(config.publicUrl).origin];
  const allowed = [...config.corsOrigins, ...own];
  if (!allowed.includes(new URL(returnUrl).origin)) throw new DomainError('return_url_not_allowed');
}

async function customerOf({ store }: Deps, { caller, user_id }: CreatePayment): Promise<number> {
  const userId = ownerFor(caller, user_id) ?? selfId(caller);
  return (await getUserToActFor(store, caller, userId)).id;
}

function selfId(caller: AccountActor): number {
  if (caller.kind === 'service') throw invalidField('user_id', 'is required with an API key');
  return caller.user.id;
}

/** A user cannot say which of his provider's charges is his: that would let him claim another's money. */
function chargeIdOf({ caller, provider_payment_id }: CreatePayment): string | null {
  return caller.kind === 'user' ? null : (provider_payment_id ?? null);
}

interface Opening {
  readonly input: CreatePayment;
  readonly userId: number;
  readonly quote: Quote;
  readonly chargeId: string | null;
  readonly now: Instant;
}

async function openPayment(
  deps: Deps,
  tx: Tx,
  opening: Opening,
  { source, beforeCommit }: Committing<PaymentRow>,
): Promise<PaymentRow> {
  const { userId, quote, input, now } = opening;
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  const known = await findRepeated(tx, opening);
  const payment = known ?? (await insertQuoted(deps, tx, opening));
  if (known === undefined && input.caller.kind !== 'user') {
    const details = { user_id: userId, tariff_id: quote.tariff.id };
    await audit(tx, { ...source, at: now, action: 'payment.create', target: `payment:${payment.id}`, details });
  }
  await beforeCommit(tx, payment);
  return payment;
}

/** @throws DomainError `already_lifetime`, `payment_conflict` */
async function findRepeated(tx: Tx, opening: Opening): Promise<PaymentRow | undefined> {
  const { userId, chargeId } = opening;
  const sameCharge = chargeId === null ? undefined : await findSameCharge(tx, opening, chargeId);
  if (sameCharge !== undefined) return sameCharge;
  if (hasLifetime(await loadChain(tx, userId))) throw new DomainError('already_lifetime');
  return chargeId === null ? findSameQuote(tx, opening) : undefined;
}

/** Whatever its state: a webhook may have settled it before the caller heard our first answer. */
async function findSameCharge(tx: Tx, { userId, quote }: Opening, chargeId: string): Promise<PaymentRow | undefined> {
  const known = await findPaymentByCharge(tx, quote.provider, chargeId);
  if (known === undefined) return undefined;
  if (known.user_id !== userId || known.tariff_id !== quote.tariff.id) throw new DomainError('payment_conflict');
  return known;
}

async function findSameQuote(tx: Tx, { input, userId, quote }: Opening): Promise<PaymentRow | undefined> {
  const { tariff, currency, provider, amountMinor } = quote;
  const apply = applyOf(input);
  const open = await findOpenPayment(tx, { userId, tariffId: tariff.id, currency, provider, amountMinor, apply });
  // Sold on other terms since: the caller wants what the tariff gives now.
  return open?.tariff_snapshot === snapshotOf(quote) ? open : undefined;
}

async function insertQuoted(deps: Deps, tx: Tx, opening: Opening): Promise<PaymentRow> {
  const { input, userId, quote, chargeId, now } = opening;
  if (input.caller.kind === 'user') await checkRoom(tx, userId, now);
  // An event about this charge may have come before us.
  if (chargeId !== null) tx.onCommit(() => deps.parkedEvents.wake());
  return insertPayment(tx, {
    reference: newReference(deps.random),
    parent_id: null,
    user_id: userId,
    tariff_id: quote.tariff.id,
    provider: quote.provider,
    provider_payment_id: chargeId,
    status: 'pending',
    list_amount_minor: quote.listMinor,
    amount_minor: quote.amountMinor,
    currency: quote.currency,
    tariff_snapshot: snapshotOf(quote),
    return_url: input.return_url ?? null,
    apply: applyOf(input),
    poll_at: pollAtOf(deps, opening),
    created_at: now,
    updated_at: now,
  });
}

function applyOf({ apply }: CreatePayment): 'now' | 'extend' {
  return apply ?? 'now';
}

/** Null for providers that only tell and cannot be asked. */
function pollAtOf({ providers, config }: Deps, { quote, now }: Opening): Instant | null {
  const canBeAsked = providers.get(quote.provider)?.fetchPayment !== undefined;
  return canBeAsked ? firstPollAt(now, config.payments.pollSeconds) : null;
}

async function checkRoom(tx: Tx, userId: number, now: Instant): Promise<void> {
  const since = addSeconds(now, -DAY_SECONDS);
  const open = await countPayments(tx, { userId, status: 'pending', since });
  if (open >= MAX_OPEN_PAYMENTS) throw new DomainError('too_many_open_payments');
}

function snapshotOf({ tariff }: Quote): string {
  return JSON.stringify(termsOf(tariff));
}

/** Another user's payment got the charge at the same moment, or the tariff went. */
function asOpeningError({ store }: Deps, error: unknown): unknown {
  if (isUniqueViolation(error) !== 'payments(provider, provider_payment_id)') return asSaleError(store, error);
  return new DomainError('payment_conflict', { cause: error });
}

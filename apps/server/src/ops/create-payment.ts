import {
  countOpenPayments,
  findOpenPayment,
  findTariff,
  findTariffsByPrice,
  insertPayment,
  isUniqueViolation,
  lockUser,
  type PaymentRow,
  type TariffWithPrices,
  type Tx,
} from '@vpn-api/db';
import { type AccountActor, ownerFor } from '../api/actor.ts';
import { newReference } from '../crypto/random.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import { isCurrency, readAmount } from '../domain/money.ts';
import { hasLifetime } from '../domain/subscription.ts';
import type { PaymentProvider } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './create-tariff.ts';
import { loadChain } from './subscription-chain.ts';
import { termsOf } from './tariff-terms.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'random' | 'providers' | 'config' | 'parkedEvents'>;

export interface CreatePayment {
  readonly caller: AccountActor;
  readonly tariff_id?: number | null | undefined;
  readonly provider?: string | null | undefined;
  readonly currency?: string | null | undefined;
  readonly amount?: string | number | null | undefined;
  readonly return_url?: string | null | undefined;
  readonly user_id?: number | null | undefined;
  readonly provider_payment_id?: string | null | undefined;
}

interface Quote {
  readonly tariff: TariffWithPrices;
  readonly provider: string;
  readonly currency: string;
  readonly listMinor: number;
  readonly amountMinor: number;
}

/** More would be noise: a customer pays one of them. Services and admins open them for many users and are not counted. */
const MAX_OPEN_PAYMENTS = 5;

/**
 * Opens a payment with the price as it is now. A repeat answers the open payment of the same user, tariff, price and
 * provider.
 * @throws DomainError `tariff_not_found`, `tariff_required`, `price_mismatch`, `currency_not_sold`, `already_lifetime`,
 * `too_many_open_payments`, `payment_conflict`, `provider_not_found`, `return_url_not_allowed`, `not_allowed`
 */
export async function createPayment(
  deps: Deps,
  input: CreatePayment,
  committing: Committing<PaymentRow>,
): Promise<PaymentRow> {
  checkReturnUrl(deps, input.return_url);
  const userId = ownerFor(input.caller, input.user_id) ?? selfId(input.caller);
  const quote = await quoteFor(deps, input);
  const payment = await openPayment(deps, { input, userId, quote }, committing);
  if (payment.provider_payment_id !== null) deps.parkedEvents.wake();
  return payment;
}

function selfId(caller: AccountActor): number {
  if (caller.kind === 'service') throw invalidField('user_id', 'is required with an API key');
  return caller.user.id;
}

function checkReturnUrl({ config }: Deps, returnUrl: string | null | undefined): void {
  if (returnUrl == null) return;
  const allowed = new Set([...config.corsOrigins, ...(config.publicUrl === undefined ? [] : [new URL(config.publicUrl).origin])]);
  if (!allowed.has(new URL(returnUrl).origin)) throw new DomainError('return_url_not_allowed');
}

async function quoteFor({ store, providers }: Deps, input: CreatePayment): Promise<Quote> {
  const provider = chooseProvider(providers, input.provider);
  const tariff = await chooseTariff(store, input);
  if (tariff.archived_at !== null) throw new DomainError('tariff_archived');
  const price = tariff.prices.find((row) => sells(row, provider, input.currency ?? undefined));
  if (price === undefined) throw new DomainError('currency_not_sold');
  return {
    tariff,
    provider: provider.name,
    currency: price.currency,
    listMinor: price.amount_minor,
    amountMinor: quotedAmount(input, price),
  };
}

function chooseProvider(providers: Deps['providers'], name: string | null | undefined): PaymentProvider {
  const configured = [...providers.keys()].filter((known) => known !== 'manual');
  const chosen = name ?? (configured.length === 1 ? configured[0] : 'manual') ?? 'manual';
  const provider = providers.get(chosen);
  if (provider === undefined) throw new DomainError('provider_not_found');
  return provider;
}

/** Older clients name a price instead of a tariff. */
async function chooseTariff(store: Deps['store'], input: CreatePayment): Promise<TariffWithPrices> {
  if (input.tariff_id != null) {
    const tariff = await findTariff(store, input.tariff_id);
    if (tariff === undefined) throw new DomainError('tariff_not_found');
    return tariff;
  }
  const currency = input.currency ?? 'USD';
  const amount = input.amount == null ? undefined : readAmount(input.amount, currency);
  const matches = amount === undefined ? [] : await findTariffsByPrice(store, currency, amount);
  const [only] = matches;
  if (only === undefined || matches.length > 1) throw new DomainError('tariff_required');
  return only;
}

function sells(
  row: TariffWithPrices['prices'][number],
  provider: PaymentProvider,
  currency: string | undefined,
): boolean {
  if (currency !== undefined && row.currency !== currency) return false;
  if (row.providers !== null && !row.providers.includes(provider.name)) return false;
  return provider.currencies === undefined || provider.currencies.includes(row.currency);
}

/** The price is the tariff's; only an admin may quote another. */
function quotedAmount(input: CreatePayment, price: TariffWithPrices['prices'][number]): number {
  if (input.amount == null) return price.amount_minor;
  const amount = isCurrency(price.currency) ? readAmount(input.amount, price.currency) : undefined;
  if (amount === undefined) throw invalidField('amount', `is not an amount of ${price.currency}`);
  if (amount !== price.amount_minor && input.caller.kind !== 'admin') throw new DomainError('price_mismatch');
  return amount;
}

interface Opening {
  readonly input: CreatePayment;
  readonly userId: number;
  readonly quote: Quote;
}

async function openPayment(deps: Deps, opening: Opening, committing: Committing<PaymentRow>): Promise<PaymentRow> {
  const now = deps.clock.now();
  try {
    return await deps.store.transaction(async (tx) => {
      const payment = (await findRepeated(tx, opening, now)) ?? (await insertQuoted(deps, tx, opening, now));
      await committing.beforeCommit(tx, payment);
      if (opening.input.caller.kind !== 'user') {
        const details = { user_id: opening.userId, tariff_id: opening.quote.tariff.id };
        await audit(tx, { ...committing.source, at: now, action: 'payment.create', target: `payment:${payment.id}`, details });
      }
      return payment;
    });
  } catch (error) {
    if (isUniqueViolation(error)?.includes('provider_payment_id')) throw new DomainError('payment_conflict', { cause: error });
    throw error;
  }
}

async function findRepeated(tx: Tx, { input, userId, quote }: Opening, now: Instant): Promise<PaymentRow | undefined> {
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  if (hasLifetime(await loadChain(tx, userId), now)) throw new DomainError('already_lifetime');
  const open = await findOpenPayment(tx, {
    userId,
    tariffId: quote.tariff.id,
    currency: quote.currency,
    provider: quote.provider,
    amountMinor: quote.amountMinor,
  });
  const chargeId = chargeIdOf(input);
  return chargeId === null || open?.provider_payment_id === chargeId ? open : undefined;
}

/** A user cannot say which of his provider's charges is his: that would let him claim another's money. */
function chargeIdOf(input: CreatePayment): string | null {
  return input.caller.kind === 'user' ? null : (input.provider_payment_id ?? null);
}

async function insertQuoted(deps: Deps, tx: Tx, { input, userId, quote }: Opening, now: Instant): Promise<PaymentRow> {
  if (input.caller.kind === 'user' && (await countOpenPayments(tx, userId)) >= MAX_OPEN_PAYMENTS) {
    throw new DomainError('too_many_open_payments');
  }
  return insertPayment(tx, {
    reference: newReference(deps.random),
    parent_id: null,
    user_id: userId,
    tariff_id: quote.tariff.id,
    provider: quote.provider,
    provider_payment_id: chargeIdOf(input),
    status: 'pending',
    list_amount_minor: quote.listMinor,
    amount_minor: quote.amountMinor,
    currency: quote.currency,
    tariff_snapshot: JSON.stringify(termsOf(quote.tariff)),
    return_url: input.return_url ?? null,
    created_at: now,
    updated_at: now,
  });
}

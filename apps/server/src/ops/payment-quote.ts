import { findTariff, findTariffsByPrice, type TariffPriceRow, type TariffWithPrices } from '@vpn-api/db';
import type { AccountActor } from '../api/actor.ts';
import { DomainError } from '../domain/errors.ts';
import { parseAmount, readAmount } from '../domain/money.ts';
import type { PaymentProvider } from '../pay/provider.ts';
import type { Services } from '../services.ts';

/** What a caller asks to pay for. */
export interface QuoteRequest {
  readonly caller: AccountActor;
  readonly tariff_id?: number | null | undefined;
  readonly provider?: string | null | undefined;
  readonly currency?: string | null | undefined;
  readonly amount?: string | number | null | undefined;
}

/** What must come in, for what, through whom. */
export interface Quote {
  readonly tariff: TariffWithPrices;
  readonly provider: string;
  readonly currency: string;
  readonly listMinor: number;
  readonly amountMinor: number;
}

type Deps = Pick<Services, 'store' | 'providers'>;

/** The currency of clients that name an amount without one. */
const DEFAULT_CURRENCY = 'USD';

/**
 * The price as it is now.
 * @throws DomainError `provider_not_found`, `tariff_not_found`, `tariff_required`, `tariff_archived`,
 * `trial_not_for_sale`, `currency_not_sold`, `price_mismatch`, `validation_failed`
 */
export async function quotePayment({ store, providers }: Deps, request: QuoteRequest): Promise<Quote> {
  const provider = chooseProvider(providers, request.provider);
  const tariff = await chooseTariff(store, request);
  if (tariff.archived_at !== null) throw new DomainError('tariff_archived');
  if (tariff.trial === 1) throw new DomainError('trial_not_for_sale');
  const price = tariff.prices.find((row) => isSold(row, provider, request.currency ?? row.currency));
  if (price === undefined) throw new DomainError('currency_not_sold');
  return {
    tariff,
    provider: provider.name,
    currency: price.currency,
    listMinor: price.amount_minor,
    amountMinor: quotedAmount(request, price),
  };
}

function chooseProvider(providers: Deps['providers'], name: string | null | undefined): PaymentProvider {
  const configured = [...providers.keys()].filter((known) => known !== 'manual');
  const [only] = configured.length === 1 ? configured : ['manual'];
  const provider = providers.get(name ?? only ?? 'manual');
  if (provider === undefined) throw new DomainError('provider_not_found');
  return provider;
}

async function chooseTariff(store: Deps['store'], request: QuoteRequest): Promise<TariffWithPrices> {
  if (request.tariff_id == null) return tariffByPrice(store, request);
  const tariff = await findTariff(store, request.tariff_id);
  if (tariff === undefined) throw new DomainError('tariff_not_found');
  return tariff;
}

/** Older clients name a price instead of a tariff. */
async function tariffByPrice(store: Deps['store'], { amount, currency }: QuoteRequest): Promise<TariffWithPrices> {
  const code = currency ?? DEFAULT_CURRENCY;
  const minor = amount == null ? undefined : readAmount(amount, code);
  const [only, ...others] = minor === undefined ? [] : await findTariffsByPrice(store, code, minor);
  if (only === undefined || others.length > 0) throw new DomainError('tariff_required');
  return only;
}

function isSold(row: TariffPriceRow, provider: PaymentProvider, currency: string): boolean {
  if (row.currency !== currency) return false;
  if (row.providers !== null && !row.providers.includes(provider.name)) return false;
  return provider.currencies === undefined || provider.currencies.includes(currency);
}

/** The price is the tariff's; only an admin may quote another. */
function quotedAmount({ amount, caller }: QuoteRequest, price: TariffPriceRow): number {
  if (amount == null) return price.amount_minor;
  const minor = parseAmount(amount, price.currency);
  if (minor !== price.amount_minor && caller.kind !== 'admin') throw new DomainError('price_mismatch');
  return minor;
}

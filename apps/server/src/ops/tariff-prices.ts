import type { NewPrice, TariffPriceRow } from '@vpn-api/db';
import { invalidField } from '../domain/errors.ts';
import { parseAmount } from '../domain/money.ts';

export interface PriceInput {
  readonly currency: string;
  readonly amount: string | number;
  readonly providers?: readonly string[] | undefined;
}

/** Either a lone `price`, with its `currency`, or a list of `prices`. */
export interface PricesInput {
  readonly price?: string | number | null | undefined;
  readonly currency?: string | null | undefined;
  readonly prices?: readonly PriceInput[] | null | undefined;
}

/** The currency of a lone `price`, which is all that older clients know. */
const DEFAULT_CURRENCY = 'USD';

/**
 * The rows of `tariff_prices` for a new tariff; undefined when the input names no price.
 * @throws DomainError `validation_failed` for both forms at once, a currency named twice, or more decimals than it has
 */
export function priceRows(input: PricesInput): NewPrice[] | undefined {
  checkForm(input);
  if (input.price != null) return [lonePrice(input.price, input.currency ?? DEFAULT_CURRENCY)];
  return input.prices == null ? undefined : listedPrices(input.prices);
}

/**
 * The rows after a change; undefined when the prices stay. A lone `price` replaces the one in its currency, by default
 * the first one's, and leaves the others.
 * @throws DomainError as `priceRows`
 */
export function changedPrices(before: readonly TariffPriceRow[], input: PricesInput): NewPrice[] | undefined {
  if (input.price == null) return priceRows(input);
  checkForm(input);
  const changed = lonePrice(input.price, input.currency ?? before[0]?.currency ?? DEFAULT_CURRENCY);
  const rows = before.map(({ currency, amount_minor, providers }) => ({ currency, amount_minor, providers }));
  const known = rows.find((row) => row.currency === changed.currency);
  if (known === undefined) return [...rows, changed];
  return rows.map((row) => (row === known ? { ...row, amount_minor: changed.amount_minor } : row));
}

function checkForm({ price, prices, currency }: PricesInput): void {
  if (price != null && prices != null) throw invalidField('prices', 'send either price or prices');
  if (currency != null && price == null) throw invalidField('currency', 'belongs to price; send both');
}

function lonePrice(price: string | number, currency: string): NewPrice {
  return { currency, amount_minor: parseAmount(price, currency, 'price'), providers: null };
}

function listedPrices(prices: readonly PriceInput[]): NewPrice[] {
  const names = new Set(prices.map(({ currency }) => currency));
  if (names.size !== prices.length) throw invalidField('prices', 'names a currency twice');
  return prices.map(({ currency, amount, providers }, index) => ({
    currency,
    amount_minor: parseAmount(amount, currency, `prices.${index}.amount`),
    providers: providers ?? null,
  }));
}

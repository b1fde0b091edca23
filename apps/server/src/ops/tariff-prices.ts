import { invalidField } from '../domain/errors.ts';
import { readAmount } from '../domain/money.ts';

export interface PriceInput {
  readonly currency: string;
  readonly amount: string | number;
  readonly providers?: readonly string[] | undefined;
}

export interface PricesInput {
  readonly price?: string | number | null | undefined;
  readonly currency?: string | null | undefined;
  readonly prices?: readonly PriceInput[] | null | undefined;
}

/** The currency of a lone `price`, which is all that older clients know. */
const DEFAULT_CURRENCY = 'USD';

/**
 * The rows of `tariff_prices` for a lone `price` or a list of `prices`; undefined when the input names neither.
 * @throws DomainError `validation_failed` for both at once, a currency named twice, or more decimals than it has
 */
export function priceRows(input: PricesInput) {
  if (input.price != null && input.prices != null) throw invalidField('prices', 'send either price or prices');
  const list = input.prices ?? lonePrice(input);
  if (list === undefined) return undefined;
  const names = new Set(list.map(({ currency }) => currency));
  if (names.size !== list.length) throw invalidField('prices', 'names a currency twice');
  return list.map((price, index) => ({
    currency: price.currency,
    amount_minor: minorAmount(price, input.prices == null ? 'price' : `prices.${index}.amount`),
    providers: price.providers ?? null,
  }));
}

function lonePrice({ price, currency }: PricesInput): readonly PriceInput[] | undefined {
  if (price == null) return undefined;
  return [{ currency: currency ?? DEFAULT_CURRENCY, amount: price }];
}

function minorAmount({ amount, currency }: PriceInput, path: string): number {
  const minor = readAmount(amount, currency);
  if (minor === undefined) throw invalidField(path, `is not an amount of ${currency}`);
  return minor;
}

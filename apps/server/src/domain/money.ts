import { invalidField } from './errors.ts';

/** Money in the smallest unit of its currency (cents, yen, stars): a whole number from 0 to 2^53 − 1. Never a float. */
export type AmountMinor = number & { readonly __amountMinor: unique symbol };

/** A currency this service can count in: an ISO 4217 code, `XTR` (Telegram Stars) or `USDT`. */
export type Currency = string & { readonly __currency: unique symbol };

const CODES_BY_EXPONENT: Readonly<Record<number, string>> = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF XTR',
  2:
    'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE ' +
    'CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD ' +
    'HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK ' +
    'MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD ' +
    'RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH ' +
    'USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG',
  3: 'BHD IQD JOD KWD LYD OMR TND',
  4: 'CLF UYW',
  6: 'USDT',
};

const EXPONENTS: ReadonlyMap<string, number> = new Map(
  Object.entries(CODES_BY_EXPONENT).flatMap(([exponent, codes]) =>
    codes.split(' ').map((code): [string, number] => [code, Number(exponent)]),
  ),
);

/** Every currency, sorted. */
export const CURRENCIES: readonly Currency[] = [...EXPONENTS.keys()].sort() as Currency[];

/** No leading zeros, sign, exponent, spaces or grouping: one value has one spelling up to its trailing zeros. */
const DECIMAL = /^(0|[1-9]\d*)(?:\.(\d+))?$/;

/** 2^53 − 1 has 16 digits; longer texts cannot fit and are not worth a BigInt. */
const LONGEST_DECIMAL = 24;

export function isCurrency(code: string): code is Currency {
  return EXPONENTS.has(code);
}

/** Digits after the point: 2 for USD, 0 for JPY and XTR, 6 for USDT. Throws a RangeError for an unknown currency. */
export function currencyExponent(currency: string): number {
  const exponent = EXPONENTS.get(currency);
  if (exponent === undefined) throw new RangeError('unknown currency');
  return exponent;
}

/** True for what the type promises. */
export function isAmountMinor(value: number): value is AmountMinor {
  return Number.isSafeInteger(value) && value >= 0;
}

/** Brands a number from a row or from a provider that counts in minor units. Throws a RangeError if it cannot be money. */
export function amountMinor(value: number): AmountMinor {
  if (!isAmountMinor(value)) throw new RangeError('not an amount in minor units');
  return value;
}

/**
 * Reads an amount in major units: decimal text (`"9.99"`), or a whole JSON number (`9` is 9.00). Answers undefined for a
 * fraction as a number, a negative, more decimals than the currency has (even zeros), and more than 2^53 − 1 minor units.
 */
export function readAmount(value: string | number, currency: string): AmountMinor | undefined {
  const exponent = currencyExponent(currency);
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return undefined;
  const text = String(value);
  const parts = text.length <= LONGEST_DECIMAL ? DECIMAL.exec(text) : null;
  if (parts === null) return undefined;
  const [, whole = '', decimals = ''] = parts;
  if (decimals.length > exponent) return undefined;
  const minor = Number(BigInt(whole + decimals.padEnd(exponent, '0')));
  return isAmountMinor(minor) ? minor : undefined;
}

/** As `readAmount`, but throws `validation_failed` on `path`. */
export function parseAmount(value: string | number, currency: string, path = 'amount'): AmountMinor {
  const amount = readAmount(value, currency);
  if (amount === undefined) {
    throw invalidField(path, `Must be a decimal string with at most ${currencyExponent(currency)} decimals`);
  }
  return amount;
}

/** Decimal text with exactly the decimals of the currency: `999` USD is `"9.99"`, `5` JPY is `"5"`. */
export function formatAmount(minor: number, currency: string): string {
  const exponent = currencyExponent(currency);
  const digits = String(amountMinor(minor)).padStart(exponent + 1, '0');
  if (exponent === 0) return digits;
  return `${digits.slice(0, -exponent)}.${digits.slice(-exponent)}`;
}

/** `floor(total × part / whole)` without leaving whole numbers: the product of two amounts or lengths passes 2^53. */
export function proportion(total: number, part: number, whole: number): number {
  return Number((BigInt(total) * BigInt(part)) / BigInt(whole));
}

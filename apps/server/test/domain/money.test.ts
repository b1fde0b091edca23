import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DomainError } from '../../src/domain/errors.ts';
import {
  amountMinor,
  CURRENCIES,
  currencyExponent,
  formatAmount,
  isAmountMinor,
  isCurrency,
  parseAmount,
  proportion,
  readAmount,
} from '../../src/domain/money.ts';

const currencies = fc.constantFrom(...CURRENCIES);
const amounts = fc.oneof(fc.integer({ min: 0, max: 1000 }), fc.maxSafeNat());

describe('money', () => {
  it('comes back unchanged from the text it is shown as', () => {
    fc.assert(
      fc.property(amounts, currencies, (minor, currency) => {
        const text = formatAmount(minor, currency);
        expect(parseAmount(text, currency)).toBe(minor);
        expect(text.split('.')[1]?.length ?? 0).toBe(currencyExponent(currency));
      }),
    );
  });

  it('is read by digits, never by arithmetic on fractions', () => {
    fc.assert(
      fc.property(amounts, currencies, fc.nat({ max: 6 }), (minor, currency, dropped) => {
        const text = formatAmount(minor, currency);
        const shorter = text.includes('.')
          ? text.slice(0, text.length - Math.min(dropped, currencyExponent(currency)))
          : text;
        fc.pre(!shorter.endsWith('.'));
        const kept = shorter.split('.')[1]?.length ?? 0;
        const scale = 10n ** BigInt(currencyExponent(currency) - kept);
        expect(BigInt(readAmount(shorter, currency) ?? -1)).toBe((BigInt(minor) / scale) * scale);
      }),
    );
  });

  it.each([
    ['9.99', 'USD', 999],
    ['0.1', 'USD', 10],
    ['0', 'USD', 0],
    [9, 'USD', 900],
    [-0, 'USD', 0],
    ['100', 'XTR', 100],
    ['5.432', 'USDT', 5_432_000],
    ['1.005', 'KWD', 1005],
    ['90071992547409.91', 'USD', Number.MAX_SAFE_INTEGER],
  ])('reads %j %s', (value, currency, minor) => {
    expect(readAmount(value, currency)).toBe(minor);
  });

  it.each([
    ['9.999', 'USD'],
    ['9.990', 'USD'],
    ['1.0', 'JPY'],
    ['-1', 'USD'],
    ['+1', 'USD'],
    ['1e3', 'USD'],
    ['0x10', 'USD'],
    ['٣', 'USD'],
    ['09.99', 'USD'],
    ['.5', 'USD'],
    ['5.', 'USD'],
    ['1,00', 'USD'],
    [' 1', 'USD'],
    ['1\n', 'USD'],
    ['', 'USD'],
    ['NaN', 'USD'],
    [9.99, 'USD'],
    [Number.NaN, 'USD'],
    [Number.POSITIVE_INFINITY, 'USD'],
    [1e21, 'USD'],
    [-1, 'USD'],
    ['90071992547409.92', 'USD'],
    ['9'.repeat(100_000), 'USD'],
  ])('refuses %j %s as bad input', (value, currency) => {
    expect(readAmount(value, currency)).toBeUndefined();
    expect(() => parseAmount(value, currency, 'price')).toThrow(DomainError);
  });

  it('names the field and not the value in a refusal', () => {
    expect.assertions(2);
    try {
      parseAmount('secret', 'USD', 'prices.0.amount');
    } catch (error) {
      expect(error).toMatchObject({ code: 'validation_failed', issues: [{ path: 'prices.0.amount' }] });
      expect(JSON.stringify(error)).not.toContain('secret');
    }
  });

  it('knows a currency by its exact code only', () => {
    for (const code of ['usd', 'XYZ', '', 'USD ', 'constructor', '__proto__']) {
      expect(isCurrency(code)).toBe(false);
      expect(() => currencyExponent(code)).toThrow(RangeError);
    }
    expect(CURRENCIES.every((code) => isCurrency(code))).toBe(true);
    expect(new Set(CURRENCIES).size).toBe(CURRENCIES.length);
  });

  it('is a whole number from 0 to 2^53 − 1 and nothing else', () => {
    for (const value of [-1, 0.5, 2 ** 53, Number.NaN]) {
      expect(isAmountMinor(value)).toBe(false);
      expect(() => amountMinor(value)).toThrow(RangeError);
      expect(() => formatAmount(value, 'USD')).toThrow(RangeError);
    }
  });

  it('takes exact shares of products beyond 2^53', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), fc.maxSafeNat(), (total, a, b) => {
        const [part, whole] = a < b ? [a, b] : [b, a + 1];
        fc.pre(whole > 0 && whole <= Number.MAX_SAFE_INTEGER);
        const share = BigInt(proportion(total, part, whole));
        expect(share * BigInt(whole) <= BigInt(total) * BigInt(part)).toBe(true);
        expect((share + 1n) * BigInt(whole) > BigInt(total) * BigInt(part)).toBe(true);
      }),
    );
  });
});

import { z } from 'zod';
import { CURRENCIES } from '../domain/money.ts';

/** The fields that several procedures share. What a database would refuse is refused here, alike for both engines. */

/** Largest value of a 32-bit key column. */
const MAX_ID = 2_147_483_647;

export const id = z.int().min(1).max(MAX_ID);

/** C0, DEL and C1 controls, bidirectional overrides and line separators: invisible, and able to forge what a reader sees. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing control characters is the point
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/;

/** One line of human text, trimmed and NFC, `max` code points at most; what is stored is what was checked. */
export function text(max: number) {
  return z
    .string()
    .max(max * 2)
    .refine((value) => value.isWellFormed() && !FORBIDDEN.test(value), 'contains characters that are not allowed')
    .trim()
    .normalize('NFC')
    .refine((value) => [...value].length <= max, `must have at most ${max} characters`);
}

/** As `text`, but not blank. */
export function name(max: number) {
  return text(max).refine((value) => value.length > 0, 'must not be blank');
}

/** Printable ASCII without spaces: provider ids, references, codes. */
export function token(max: number) {
  return z
    .string()
    .min(1)
    .max(max)
    .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces');
}

/**
 * ASCII addresses only, so that two look-alikes can never be one account; both parts are folded to lower case.
 * RFC 5321 lengths: 64 before the at sign, 254 in all.
 */
export const email = z
  .string()
  .trim()
  .max(254)
  .regex(
    /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$/,
    'value is not a valid email address',
  )
  .toLowerCase();

/** Length rules of passwords have codes of their own and live with the hashing. */
export const password = z
  .string()
  .max(1024)
  .refine((value) => value.isWellFormed(), 'contains characters that are not allowed');

/** An amount as clients send it: a decimal string, or a whole number. A fraction as a JSON number is refused. */
export const amount = z.union([
  z.string().regex(/^\d{1,13}(?:\.\d{1,8})?$/, 'must be a decimal number like "9.99"'),
  z.int().min(0).max(9_999_999_999_999),
]);

export const currency = z.enum(CURRENCIES as unknown as [string, ...string[]]);

export const telegramId = z.int().min(1).max(Number.MAX_SAFE_INTEGER);

/** A point in time as ISO-8601 UTC with milliseconds. PostgreSQL has no year 0. */
export const instant = z.iso
  .datetime({ precision: 3 })
  .refine((value) => !value.startsWith('0000'), 'must be in the years 0001 to 9999');

/** Bounds of every list. `after_id` continues behind a row and is stable while rows are added. */
export const page = {
  skip: z.int().min(0).max(MAX_ID).default(0),
  limit: z.int().min(1).max(100).default(100),
  after_id: z.int().min(0).max(MAX_ID).optional(),
  with_total: z.boolean().default(false),
} as const;

export interface Page {
  readonly skip: number;
  readonly limit: number;
  readonly after_id?: number | undefined;
  readonly with_total: boolean;
}

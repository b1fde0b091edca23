import fc from 'fast-check';
import { z } from 'zod';

/** Stands in every secret that the corpus sends, so that one search of the log finds a leak. */
export const CANARY = 'CANARY7f3a';

/** JSON text that `JSON.stringify` would never write: sent as it stands. */
export class RawJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** As `JSON.stringify`, but with raw pieces and with lone surrogates escaped, as a hostile client would write them. */
export function toJson(value: unknown): string {
  if (value instanceof RawJson) return value.text;
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}:${toJson(inner)}`)
    .join(',')}}`;
}

const deep = (levels: number) => new RawJson('['.repeat(levels) + ']'.repeat(levels));

/** Never right for a scalar. */
const notScalars: readonly unknown[] = [[1], new RawJson('{"__proto__":{"polluted":true}}')];

const notNumbers: readonly unknown[] = [
  '1',
  true,
  1.5,
  -1,
  2 ** 31,
  2 ** 53,
  new RawJson('9223372036854775808'),
  new RawJson('1e400'),
];

/** What one database stores and the other refuses, and what deceives a reader. */
export const brokenTexts: readonly string[] = ['nul\u0000nul', 'lone\ud800', 'bidi\u202eexe'];

const notBooleans: readonly unknown[] = ['true', 'false', 0];
const notAmounts: readonly unknown[] = [true, 1.5, -1, '1e3', '٣', '0x10', ' 1'];

/** Values that hardly any field takes, chosen by the kind of the field. */
export function hostileValues(schema: z.core.$ZodType): readonly unknown[] {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodNumber) return [...notScalars, ...notNumbers];
  if (inner instanceof z.ZodBoolean) return [...notScalars, ...notBooleans];
  if (inner instanceof z.ZodArray) return ['x', 1, {}, [[]], [{}], [null], deep(20)];
  if (inner instanceof z.ZodRecord || inner instanceof z.ZodObject) return ['x', 1, [], deep(20)];
  if (inner instanceof z.ZodUnion) return [...notScalars, ...notAmounts, ...brokenTexts];
  return [...notScalars, 1, true, 'x'.repeat(20_000), ...brokenTexts];
}

/** Whether a field must refuse the value: its schema does, or it is text that no column may hold. */
export function mustRefuse(key: string, schema: z.core.$ZodType, value: unknown): boolean {
  if (typeof value === 'string' && brokenTexts.includes(value) && !isSecretField(key)) return true;
  return !z.safeParse(schema, JSON.parse(toJson(value))).success;
}

/** Whether the field holds text that is hashed or compared and never stored: any text is allowed there. */
function isSecretField(key: string): boolean {
  return /password$|^secret$/.test(key);
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapper =
    schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault;
  return isWrapper ? unwrap(schema.unwrap()) : schema;
}

/** Text that some parser somewhere has stumbled over. */
const oddText = fc.oneof(
  fc.constantFrom(
    ...brokenTexts,
    '__proto__',
    'constructor',
    '%00',
    '../../etc/passwd',
    "' or 1=1 --",
    '{{7*7}}',
    '🙂',
  ),
  fc.constantFrom('\r\nX-Injected: 1', '0000-01-01T00:00:00.000Z', '9999-12-31T23:59:60.000Z', '-0', '1e999', 'null'),
  fc.string({ unit: 'binary', maxLength: 40 }),
);

const oddNumber = fc.constantFrom(0, -0, -1, 1, 0.1, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, 2 ** 53, -(2 ** 63), 1e308);

const oddValue = fc.oneof(
  oddText,
  oddNumber,
  fc.boolean(),
  fc.constant(null),
  fc.constant(new RawJson('1e400')),
  fc.constant(new RawJson('-0')),
  fc.jsonValue({ maxDepth: 3 }),
);

const pollution = ['constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', 'isPrototypeOf'];

/** Inputs built from an input schema's own keys with odd values; the seed makes every run and both databases see the same. */
export function oddInputs(
  schema: z.ZodObject | undefined,
  { valid, count, seed }: { valid: Readonly<Record<string, unknown>>; count: number; seed: number },
): readonly Record<string, unknown>[] {
  const keys = Object.keys(schema?.shape ?? {}).filter((key) => !isSecretField(key));
  const changes = fc.dictionary(fc.constantFrom(...keys, ...pollution), oddValue, { minKeys: 1, maxKeys: 3 });
  return fc.sample(changes, { numRuns: count, seed }).map((changed) => ({ ...valid, ...changed }));
}

import type { z } from 'zod';
import { invalidField } from '../domain/errors.ts';

/** Turns the text of a path or query value into what the input schema expects; leaves to the schema what does not fit. */
export type Coerce = (key: string, given: string | string[]) => unknown;

type Kind = 'string' | 'number' | 'boolean';

/**
 * Reads an input field's schema once, at start-up, and answers how its text is to be read. The schema itself is shared
 * with tRPC and stays as it is: coercing inside it would make `"false"` true there.
 */
export function compileCoercion(schema: z.core.$ZodType): Coerce {
  const inner = unwrap(schema);
  if (inner._zod.def.type !== 'array') return single(kindOf(inner));
  const element = kindOf(unwrap((inner as z.core.$ZodArray)._zod.def.element));
  return (_key, given) => (Array.isArray(given) ? given : [given]).map((text) => coerceText(element, text));
}

function single(kind: Kind): Coerce {
  return (key, given) => {
    if (Array.isArray(given)) throw invalidField(key, 'must be given once');
    return coerceText(kind, given);
  };
}

/** One spelling a number: no blanks, plus signs, leading zeros, exponents or hexadecimal. */
const DECIMAL = /^(?:0|-?[1-9]\d{0,19})(?:\.\d{1,20})?$/;

function coerceText(kind: Kind, text: string): unknown {
  if (kind === 'number') return DECIMAL.test(text) ? Number(text) : text;
  if (kind === 'boolean') return text === 'true' ? true : text === 'false' ? false : text;
  return text;
}

/** Wrappers that say nothing about the kind of value inside. */
const WRAPPERS: ReadonlySet<string> = new Set(['optional', 'nullable', 'default', 'prefault', 'readonly', 'catch']);

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  const { def } = schema._zod;
  if (WRAPPERS.has(def.type)) return unwrap((schema as z.core.$ZodOptional)._zod.def.innerType);
  return def.type === 'pipe' ? unwrap((schema as z.core.$ZodPipe)._zod.def.in) : schema;
}

/** A union that takes text gets text. */
function kindOf(schema: z.core.$ZodType): Kind {
  const { def } = schema._zod;
  if (def.type === 'number' || def.type === 'boolean') return def.type;
  if (def.type === 'literal') return literalKind((schema as z.core.$ZodLiteral)._zod.def.values[0]);
  if (def.type !== 'union') return 'string';
  const kinds = (schema as z.core.$ZodUnion)._zod.def.options.map((option) => kindOf(unwrap(option)));
  return kinds.includes('string') ? 'string' : (kinds[0] ?? 'string');
}

function literalKind(value: unknown): Kind {
  return typeof value === 'number' || typeof value === 'boolean' ? (typeof value as Kind) : 'string';
}

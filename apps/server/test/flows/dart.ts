/**
 * How the mobile app reads an answer: every field is cast to a Dart type, and a cast of anything else throws, which a
 * user sees as a broken screen. A reader returns what the app would get.
 */
type Reader<T> = (value: unknown, field: string) => T;

function cast<T>(type: string, accepts: (value: unknown) => boolean): Reader<T> {
  return (value, field) => {
    if (!accepts(value)) throw new TypeError(`${field}: ${JSON.stringify(value)} is not a Dart ${type}`);
    return value as T;
  };
}

export const int = cast<number>('int', Number.isInteger);
export const str = cast<string>('String', (value) => typeof value === 'string');
export const bool = cast<boolean>('bool', (value) => typeof value === 'boolean');

/** `.toString()`: takes anything that is there. */
export const any: Reader<unknown> = cast('Object', (value) => value !== null && value !== undefined);

/** `?`: null and absent are fine. */
export function maybe<T>(reader: Reader<T>): Reader<T | undefined> {
  return (value, field) => (value === null || value === undefined ? undefined : reader(value, field));
}

type Fields = Readonly<Record<string, Reader<unknown>>>;

/** Reads the fields of one JSON object, as a `fromJson` factory does. @throws TypeError naming the field */
export function read<F extends Fields>(value: unknown, fields: F): { [K in keyof F]: ReturnType<F[K]> } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('not a Dart Map');
  const source = value as Record<string, unknown>;
  const entries = Object.entries(fields).map(([key, reader]) => [key, reader(source[key], key)]);
  return Object.fromEntries(entries) as { [K in keyof F]: ReturnType<F[K]> };
}

export function readList<F extends Fields>(value: unknown, fields: F): { [K in keyof F]: ReturnType<F[K]> }[] {
  if (!Array.isArray(value)) throw new TypeError('not a Dart List');
  return value.map((item) => read(item, fields));
}

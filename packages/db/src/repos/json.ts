/** Reads a column that holds a JSON array of words. What else it holds was not written by us, and is an error. */
export function parseWords(text: string): string[] {
  const value: unknown = JSON.parse(text);
  if (Array.isArray(value) && value.every((word) => typeof word === 'string')) return value;
  throw new TypeError('A column that should hold a JSON array of strings holds something else');
}

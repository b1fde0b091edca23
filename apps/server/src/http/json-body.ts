import { isUtf8 } from 'node:buffer';
import { DomainError, invalidField } from '../domain/errors.ts';

/** Deeper than any body we take. What `JSON.parse` survives, `JSON.stringify`, loggers and schemas may not. */
export const MAX_JSON_DEPTH = 32;

/** A text that nests deeper than the cap and still ends properly needs this many brackets. */
const SHORTEST_TOO_DEEP = 2 * (MAX_JSON_DEPTH + 1);

/**
 * Parses a JSON body. No bytes are no input. The text is measured before it is parsed, without recursion.
 * @throws DomainError `malformed_json`; `validation_failed` for a body that nests too deeply or names `__proto__`
 */
export function parseJsonBody(bytes: Buffer): unknown {
  const text = jsonText(bytes);
  return text === undefined ? undefined : parseJson(text);
}

/** The checked text of a JSON body, for a transport that parses by itself; `undefined` when there is none. */
export function checkedJsonText(bytes: Buffer): string | undefined {
  const text = jsonText(bytes);
  if (text !== undefined && mayHoldProto(text)) refuseProto(parseText(text));
  return text;
}

/** Refuses what nests deeper than the cap, for JSON that comes in a query string. */
export function checkJsonDepth(text: string): void {
  if (text.length >= SHORTEST_TOO_DEEP && isTooDeep(text)) {
    throw invalidField('', `must not nest deeper than ${MAX_JSON_DEPTH} levels`);
  }
}

function jsonText(bytes: Buffer): string | undefined {
  if (bytes.length === 0) return undefined;
  // Decoding would replace broken bytes silently, and two different passwords would become one.
  if (!isUtf8(bytes)) throw new DomainError('malformed_json');
  const text = bytes.toString('utf8');
  checkJsonDepth(text);
  return text;
}

function parseJson(text: string): unknown {
  const value = parseText(text);
  if (mayHoldProto(text)) refuseProto(value);
  return value;
}

function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the body, which may hold a password.
    throw new DomainError('malformed_json');
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) at = endOfString(text, at);
    else if (char === 0x5b || char === 0x7b) depth += 1;
    else if (char === 0x5d || char === 0x7d) depth -= 1;
    if (depth > MAX_JSON_DEPTH) return true;
  }
  return false;
}

/** Where the string that begins at `start` ends; brackets in strings do not nest. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) return at;
    if (char === BACKSLASH) at += 1;
  }
  return text.length;
}

/** `__proto__` in clear or with an escaped character; most bodies have neither and need no walk. */
function mayHoldProto(text: string): boolean {
  return text.includes('__proto__') || text.includes('\\u00');
}

/** `JSON.parse` makes `__proto__` an own key, which a later `Object.assign` would turn into a prototype. */
function refuseProto(root: unknown): void {
  const rest = [root];
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    if (Object.hasOwn(value, '__proto__')) throw invalidField('__proto__', 'is not known here');
    for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) rest.push(inner);
  }
}

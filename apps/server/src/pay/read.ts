import { isCurrency, readAmount } from '../domain/money.ts';
import type { Hint, RejectedDelivery, VerifiedEvent } from './provider.ts';

/** An object out of parsed JSON, nothing about it known yet. */
export type Json = Readonly<Record<string, unknown>>;

/** Undefined for anything that is not JSON with an object at its root. */
export function parseObject(raw: string): Json | undefined {
  try {
    return objectOf(JSON.parse(raw));
  } catch {
    return undefined;
  }
}

export function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

/** The objects of a list; whatever else stands in it is left out. */
export function objectsOf(value: unknown): readonly Json[] {
  return Array.isArray(value) ? value.map(objectOf).filter((item) => item !== undefined) : [];
}

/** Printable ASCII without spaces, as ids and codes are; undefined for anything else. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x21-\x7e]{1,255}$/.test(value) ? value : undefined;
}

/** An id that may become a part of a path: nothing in it has a meaning there. */
export function isPathPart(id: string): boolean {
  return /^[A-Za-z0-9_-]{1,255}$/.test(id);
}

/**
 * A decimal text in major units, as providers print them. They pad with zeros beyond what the currency has
 * (`5.10000000`), which mean nothing. Undefined when it cannot be an amount of that currency.
 */
export function decimalOf(value: unknown, currency: string | undefined): number | undefined {
  if (typeof value !== 'string' || currency === undefined || !isCurrency(currency)) return undefined;
  return readAmount(value.includes('.') ? value.replace(/\.?0{1,30}$/, '') : value, currency);
}

export function rejected(reason: string): RejectedDelivery {
  return { kind: 'rejected', reason };
}

/** From the provider, but not about anything that we settle. */
export function meaningless(dedupeKey: string, type: string): VerifiedEvent {
  return { kind: 'event', dedupeKey, type, event: undefined };
}

/** From the provider, and only a person can say what it means. */
export function malformed(dedupeKey: string, type: string, reason: string): VerifiedEvent {
  return { kind: 'event', dedupeKey, type, event: undefined, malformed: reason };
}

export function hint(fields: Omit<Hint, 'kind'>): Hint {
  return { kind: 'hint', ...fields };
}

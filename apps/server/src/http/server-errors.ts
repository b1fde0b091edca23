import { toDomainError } from '../api/problem.ts';
import { DomainError } from '../domain/errors.ts';
import type { Logger } from '../obs/log.ts';

/**
 * Writes an unexpected error of a transport to the log, the only place that learns of its cause. What a procedure threw
 * was logged there already, with its path, and comes wrapped in a DomainError.
 */
export function logInternal(log: Logger, error: Error, fields: Readonly<Record<string, unknown>>): void {
  if (error.cause instanceof DomainError) return;
  const refusal = toDomainError(error);
  if (refusal.code === 'internal_error') log.error({ ...fields, err: refusal.cause }, 'request failed');
}

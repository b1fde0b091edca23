import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';

/**
 * Counts an attempt to prove who one is against the account, beside the limit of the caller's address: guesses from many
 * addresses share one allowance. It refills by the minute, so nobody is locked out for good.
 * @throws DomainError `rate_limited`
 */
export function limitAccount({ rateLimiter }: Pick<Services, 'rateLimiter'>, account: string): void {
  const retryAfterSeconds = rateLimiter.take('auth', `account:${account}`);
  if (retryAfterSeconds > 0) throw new DomainError('rate_limited', { retryAfterSeconds });
}

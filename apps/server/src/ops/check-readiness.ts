import { DomainError, type ErrorIssue } from '../domain/errors.ts';
import type { Services } from '../services.ts';

type Deps = Pick<Services, 'healthChecks' | 'log'>;

/** Longer than this a part counts as stuck; load balancers give up after a few seconds themselves. */
const CHECK_TIMEOUT_MS = 3_000;
const RETRY_SECONDS = 5;

/**
 * Asks every part whether it works, all at once.
 * @throws DomainError `unavailable`, with one issue for each part that does not: its name and what is wrong
 */
export async function checkReadiness({ healthChecks, log }: Deps): Promise<void> {
  const checks = [...healthChecks].map(async ([part, check]): Promise<ErrorIssue | undefined> => {
    const wrong = await withTimeout((async () => check())()).catch((error: unknown) => {
      // The error may name hosts and users; the caller learns only which part failed.
      log.warn({ err: error, part }, 'health check failed');
      return 'failed';
    });
    return wrong === undefined ? undefined : { path: part, message: wrong };
  });
  const issues = (await Promise.all(checks)).filter((issue) => issue !== undefined);
  if (issues.length > 0) throw new DomainError('unavailable', { issues, retryAfterSeconds: RETRY_SECONDS });
}

async function withTimeout(check: Promise<string | undefined>): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(() => resolve('does not answer'), CHECK_TIMEOUT_MS);
  return Promise.race([check, promise]).finally(() => clearTimeout(timer));
}

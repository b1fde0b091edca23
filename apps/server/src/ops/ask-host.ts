import type { ServerRow } from '@vpn-api/db';
import { DriverError, type DriverErrorCode, type WgDriver } from '@vpn-api/wg';
import { DomainError, type ErrorCode } from '../domain/errors.ts';
import type { Services } from '../services.ts';

/** Somebody waits for the answer, and a healthy host gives it within a second. */
const ANSWER_MS = 10_000;

const codes: Readonly<Record<DriverErrorCode, ErrorCode>> = {
  unreachable: 'host_unreachable',
  timeout: 'host_unreachable',
  unknown_outcome: 'host_unreachable',
  refused: 'host_refused',
  auth_failed: 'host_auth_failed',
  interface_missing: 'host_interface_missing',
  bad_answer: 'host_bad_answer',
};

/**
 * Asks a host something that changes nothing, with no transaction open.
 * @throws DriverError
 */
export function askHost<T>(
  { hosts }: Pick<Services, 'hosts'>,
  server: ServerRow,
  question: (driver: WgDriver, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return question(hosts.driverFor(server), AbortSignal.timeout(ANSWER_MS));
}

/** The refusal behind a driver's error, with its words: they hold no key, no password and nothing that the host said. */
export function asHostError(error: unknown): unknown {
  if (!(error instanceof DriverError)) return error;
  return new DomainError(codes[error.code], { issues: [{ path: 'host', message: error.message }], cause: error });
}

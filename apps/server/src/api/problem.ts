import { TRPCError } from '@trpc/server';
import { StoreUnavailableError } from '@vpn-api/db';
import { ZodError } from 'zod';
import { DomainError, type ErrorCode, type ErrorIssue } from '../domain/errors.ts';
import { errorTable, trpcCode } from './error-table.ts';

/** RFC 9457 problem details, the one shape of every refusal: a REST body, or `error.data.problem` over tRPC. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  request_id: string;
  issues?: ErrorIssue[];
};

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  413: 'Content Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};

const MAX_ISSUES = 20;

export function problemOf(error: DomainError, requestId: string): Problem {
  const row = errorTable[error.code];
  const issues = error.issues.slice(0, MAX_ISSUES);
  return {
    type: 'about:blank',
    title: titles[row.status] ?? 'Error',
    status: row.status,
    detail: detailOf(error, row.detail),
    code: error.code,
    request_id: requestId,
    ...(issues.length > 0 ? { issues } : {}),
  };
}

/** A form shows `detail`, so a validation error names its first field there. */
function detailOf(error: DomainError, fallback: string): string {
  const [first] = error.issues;
  if (error.code !== 'validation_failed' || first === undefined) return fallback;
  return first.path === '' ? first.message : `${first.path}: ${first.message}`;
}

/**
 * Finds the refusal behind any error that reaches a transport. What has no code of ours becomes `internal_error`;
 * its own message stays in the log.
 */
export function toDomainError(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof StoreUnavailableError) {
    return new DomainError('unavailable', { cause: error, retryAfterSeconds: 1, internal: error.message });
  }
  if (error instanceof TRPCError) return fromTrpcError(error);
  return new DomainError('internal_error', { cause: error });
}

function fromTrpcError(error: TRPCError): DomainError {
  if (error.cause instanceof DomainError || error.cause instanceof StoreUnavailableError) {
    return toDomainError(error.cause);
  }
  if (error.code === 'BAD_REQUEST' && error.cause instanceof ZodError) return fromZodError(error.cause);
  if (error.code === 'BAD_REQUEST' && error.cause instanceof SyntaxError) return new DomainError('malformed_json');
  if (error.message === TRPC_BATCH_MESSAGE) return new DomainError('batch_too_large');
  return new DomainError(codeByTrpcCode[error.code] ?? 'internal_error', { cause: error });
}

/** tRPC gives an oversize batch no code of its own; the batch tests notice when a new version words it otherwise. */
const TRPC_BATCH_MESSAGE = 'Batch call exceeds maximum size';

/** What tRPC refuses by itself, before or beside our procedures. */
const codeByTrpcCode: Partial<Record<TRPCError['code'], ErrorCode>> = {
  PARSE_ERROR: 'malformed_json',
  BAD_REQUEST: 'validation_failed',
  NOT_FOUND: 'not_found',
  METHOD_NOT_SUPPORTED: 'method_not_allowed',
  PAYLOAD_TOO_LARGE: 'payload_too_large',
  UNSUPPORTED_MEDIA_TYPE: 'unsupported_media_type',
  CLIENT_CLOSED_REQUEST: 'validation_failed',
};

/** Names of unknown keys come from the caller and may be long; a path is for people and needs no more. */
const MAX_PATH_LENGTH = 100;

export function fromZodError(error: ZodError): DomainError {
  return new DomainError('validation_failed', { issues: error.issues.flatMap(toIssues).slice(0, MAX_ISSUES) });
}

/** One issue a field: zod puts all unknown keys of an object into one message. */
function toIssues(issue: ZodError['issues'][number]): ErrorIssue[] {
  const keys = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, MAX_ISSUES) : undefined;
  if (keys === undefined) return [{ path: dotted(issue.path), message: issue.message }];
  return keys.map((key) => ({ path: dotted([...issue.path, key]), message: 'is not known here' }));
}

function dotted(path: readonly PropertyKey[]): string {
  return path.map(String).join('.').slice(0, MAX_PATH_LENGTH);
}

/** The tRPC face of an error: our status as its code, our refusal as its cause. */
export function toTrpcError(error: unknown): TRPCError {
  const domainError = toDomainError(error);
  return new TRPCError({ code: trpcCode(domainError.code), message: domainError.code, cause: domainError });
}

const requestIds = new WeakMap<object, string>();

/** Ties an error to its request where tRPC formats it without a context: nothing was resolved yet. */
export function tagWithRequest(error: object, requestId: string): void {
  requestIds.set(error, requestId);
}

export function requestIdOf(error: unknown): string {
  return (typeof error === 'object' && error !== null ? requestIds.get(error) : undefined) ?? '';
}

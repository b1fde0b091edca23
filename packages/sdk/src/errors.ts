import { TRPCClientError } from '@trpc/client';
import type { AppRouter, ErrorCode } from './router.ts';

/**
 * What can go wrong on this side of the wire.
 *
 * - `network_error`: no answer; for a mutation it is unknown whether the server acted
 * - `timeout`: no answer within `timeoutMs`; the same uncertainty
 * - `aborted`: the caller's own `AbortSignal` fired
 * - `invalid_response`: an answer that is not the API's, such as a proxy's HTML page or a wrong `baseUrl`
 * - `client_error`: the call could not be made at all, such as a token storage that throws
 */
export type ClientErrorCode = 'network_error' | 'timeout' | 'aborted' | 'invalid_response' | 'client_error';

/** Every code that the server or this client may give. A newer server may add some: keep a `default` branch. */
export type VpnApiErrorCode = ErrorCode | ClientErrorCode;

/** One wrong field of the input. `path` is dotted, such as `prices.0.amount`. */
export interface VpnApiIssue {
  readonly path: string;
  readonly message: string;
}

export interface VpnApiErrorDetails {
  readonly code: VpnApiErrorCode;
  /** Safe to show to people when it comes from the server. */
  readonly message: string;
  readonly status?: number | undefined;
  readonly requestId?: string | undefined;
  readonly issues?: readonly VpnApiIssue[] | undefined;
  readonly retryAfterSeconds?: number | undefined;
  readonly cause?: unknown;
  /** The tRPC error as the server shaped it. */
  readonly shape?: unknown;
}

/** A symbol and not `instanceof`, so that the ESM and the CommonJS copy of this package know each other's errors. */
const brand = Symbol.for('@vpn-api/sdk/VpnApiError');

/**
 * What every call of the client rejects with. It is also a `TRPCClientError`, so that tools built on tRPC know it.
 *
 * @example
 * ```ts
 * try {
 *   await api.peer.createSelf.mutate({ device_name: 'phone' });
 * } catch (error) {
 *   if (isVpnApiError(error, 'no_active_subscription')) return showTariffs();
 *   throw error;
 * }
 * ```
 */
export class VpnApiError extends TRPCClientError<AppRouter> {
  /** Stable; decide on this and never on `message`. */
  readonly code: VpnApiErrorCode;
  /** HTTP status of this call; undefined when no answer came. */
  readonly status: number | undefined;
  /** Names the request in the server's log. */
  readonly requestId: string | undefined;
  /** The wrong fields, for `validation_failed`; otherwise empty. */
  readonly issues: readonly VpnApiIssue[];
  /** How long the server asks to wait, in seconds. */
  readonly retryAfterSeconds: number | undefined;

  constructor(details: VpnApiErrorDetails) {
    super(details.message, superOptions(details));
    // TRPCClientError sets its own prototype, whatever class is being made.
    Object.setPrototypeOf(this, new.target.prototype);
    this.name = 'VpnApiError';
    this.code = details.code;
    this.status = details.status;
    this.requestId = details.requestId;
    this.issues = details.issues ?? [];
    this.retryAfterSeconds = details.retryAfterSeconds;
    Object.defineProperty(this, brand, { value: true });
  }
}

type SuperOptions = NonNullable<ConstructorParameters<typeof TRPCClientError<AppRouter>>[1]>;

function superOptions({ cause, shape }: VpnApiErrorDetails): SuperOptions {
  const options: SuperOptions = cause instanceof Error ? { cause } : {};
  return isRecord(shape) ? { ...options, result: { error: shape } as unknown as SuperOptions['result'] } : options;
}

/** Whether `error` is this package's error and, when codes are given, has one of them. */
export function isVpnApiError(error: unknown, ...codes: readonly VpnApiErrorCode[]): error is VpnApiError {
  if (typeof error !== 'object' || error === null || !(brand in error)) return false;
  return codes.length === 0 || codes.includes((error as { code?: unknown }).code as VpnApiErrorCode);
}

/**
 * An HTTP answer that is not JSON. Thrown by the client's `fetch` before tRPC tries to parse it, because tRPC drops
 * the status of what it cannot parse.
 */
export class UnexpectedAnswer extends Error {
  readonly response: AnswerHead;

  constructor(response: AnswerHead) {
    super(`The server answered ${response.status} without JSON`);
    this.name = 'UnexpectedAnswer';
    this.response = response;
  }
}

/** The part of a `Response` that errors are read from. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
}

/**
 * Turns anything that a tRPC call may throw into a `VpnApiError`: errors of this client, of another tRPC client that
 * talks to the same server, and failures below HTTP.
 */
export function toVpnApiError(error: unknown): VpnApiError {
  if (isVpnApiError(error)) return error;
  if (!isRecord(error)) return failure('client_error', String(error), error);
  if (isVpnApiError(error.cause)) return error.cause;
  const response = headOf(error);
  const problem = problemOf(error);
  if (problem !== undefined) return fromProblem(problem, response, error);
  if (error.cause instanceof UnexpectedAnswer) return fromUnexpected(error.cause, error);
  if (response !== undefined) return fromStatus(response, messageOf(error), error);
  return fromTransport(error);
}

interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly status: number;
  readonly request_id?: unknown;
  readonly issues?: unknown;
}

/** tRPC carries the problem in `error.data`; what never reached tRPC (body limits, bad paths) is the body itself. */
function problemOf(error: Record<string, unknown>): Problem | undefined {
  const inData = isRecord(error.data) ? error.data.problem : undefined;
  const body = isRecord(error.meta) ? error.meta.responseJSON : undefined;
  return [inData, body].find(isProblem);
}

function isProblem(value: unknown): value is Problem {
  if (!isRecord(value)) return false;
  return typeof value.code === 'string' && typeof value.detail === 'string' && typeof value.status === 'number';
}

function fromProblem(problem: Problem, response: AnswerHead | undefined, cause: unknown): VpnApiError {
  return new VpnApiError({
    code: problem.code as VpnApiErrorCode,
    message: problem.detail,
    status: problem.status,
    requestId: textOrUndefined(problem.request_id) ?? response?.headers.get('x-request-id') ?? undefined,
    issues: Array.isArray(problem.issues) ? problem.issues.filter(isIssue) : [],
    retryAfterSeconds: mayWait(problem.status) ? retryAfterOf(response) : undefined,
    shape: isRecord(cause) ? cause.shape : undefined,
    cause,
  });
}

/** One answer may carry a batch of calls: its `Retry-After` is about the calls that were put off, not the others. */
function mayWait(status: number): boolean {
  return status === 409 || status === 429 || status === 503;
}

function isIssue(value: unknown): value is VpnApiIssue {
  return isRecord(value) && typeof value.path === 'string' && typeof value.message === 'string';
}

function fromUnexpected(answer: UnexpectedAnswer, cause: unknown): VpnApiError {
  return fromStatus(answer.response, answer.message, cause);
}

function fromStatus(response: AnswerHead, message: string, cause: unknown): VpnApiError {
  return new VpnApiError({
    code: codeOfStatus(response.status),
    message,
    status: response.status,
    requestId: response.headers.get('x-request-id') ?? undefined,
    retryAfterSeconds: retryAfterOf(response),
    cause,
  });
}

/** What a proxy in front of the server means by a bare status. */
function codeOfStatus(status: number): VpnApiErrorCode {
  if (status === 413) return 'payload_too_large';
  if (status === 429) return 'rate_limited';
  return status === 502 || status === 503 || status === 504 ? 'unavailable' : 'invalid_response';
}

/** What tRPC says when a batch has fewer answers than calls. */
const SHORT_BATCH = 'Missing result';

/** `fetch` rejects with a `TypeError` when the network failed; a body that is cut off or no JSON is a `SyntaxError`. */
function fromTransport(error: Record<string, unknown>): VpnApiError {
  const source = isRecord(error.cause) ? error.cause : error;
  const name = textOrUndefined(source.name);
  if (name === 'AbortError') return failure('aborted', 'The call was aborted', error);
  if (name === 'TimeoutError') return failure('timeout', 'The call timed out', error);
  if (name === 'TypeError') return failure('network_error', 'The server could not be reached', error);
  if (name === 'SyntaxError' || source.message === SHORT_BATCH)
    return failure('invalid_response', 'The answer is not one of the API', error);
  return failure('client_error', messageOf(error), error);
}

function failure(code: ClientErrorCode, message: string, cause: unknown): VpnApiError {
  return new VpnApiError({ code, message, cause });
}

function headOf(error: Record<string, unknown>): AnswerHead | undefined {
  const response = isRecord(error.meta) ? error.meta.response : undefined;
  if (!isRecord(response) || typeof response.status !== 'number' || !isRecord(response.headers)) return undefined;
  return response as unknown as AnswerHead;
}

/** `Retry-After` is seconds or an HTTP date. */
function retryAfterOf(response: AnswerHead | undefined): number | undefined {
  const text = response?.headers.get('retry-after')?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

function messageOf(error: Record<string, unknown>): string {
  return textOrUndefined(error.message) ?? 'The call failed';
}

function textOrUndefined(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

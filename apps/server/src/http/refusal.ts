import type { FastifyReply, FastifyRequest } from 'fastify';
import { problemOf, toDomainError } from '../api/problem.ts';
import { DomainError, type ErrorCode } from '../domain/errors.ts';

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** What Fastify refuses by itself, before a route of ours runs. */
const codeByFastifyCode: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_BAD_URL: 'malformed_request',
  FST_ERR_MAX_PARAM_LENGTH: 'uri_too_long',
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed_request',
};

/** The refusal behind any error of the HTTP layer. Errors of the server itself become `internal_error`. */
export function refusalOf(error: unknown): DomainError {
  const known = toDomainError(error);
  if (known.code !== 'internal_error' || !(error instanceof Error)) return known;
  const { code, statusCode } = error as Error & { code?: string; statusCode?: number };
  if (code !== undefined && Object.hasOwn(codeByFastifyCode, code)) {
    return new DomainError(codeByFastifyCode[code] ?? 'malformed_request', { cause: error });
  }
  const isClientError = statusCode !== undefined && statusCode >= 400 && statusCode < 500;
  return isClientError ? new DomainError('malformed_request', { cause: error }) : known;
}

/** Answers with problem details and the headers that belong to the refusal. */
export function sendRefusal(request: FastifyRequest, reply: FastifyReply, refusal: DomainError): FastifyReply {
  const problem = problemOf(refusal, request.id);
  if (needsChallenge(refusal.code)) reply.header('www-authenticate', 'Bearer');
  if (refusal.retryAfterSeconds !== undefined) reply.header('retry-after', String(refusal.retryAfterSeconds));
  return reply.code(problem.status).header('content-type', PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** RFC 6750: asks for a token where one is missing or no longer good; a wrong password is no such case. */
export function needsChallenge(code: ErrorCode): boolean {
  return code === 'not_authenticated' || code === 'invalid_token';
}

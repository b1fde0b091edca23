import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { problemOf } from '../api/problem.ts';
import { DomainError, type ErrorCode } from '../domain/errors.ts';

/** What the HTTP parser of Node refuses; everything else it cannot read is `malformed_request`. */
const codeByParserCode: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
};

/**
 * The answer to bytes that are no HTTP request, written to the socket since there is no request to reply to.
 * @returns the refusal's status, or undefined when nothing could be written
 */
export function answerParserError(error: { code?: string }, socket: Socket, requestId: string): number | undefined {
  // After a reset there is nobody to tell; a half-written answer of an earlier request must not get a second one inside.
  const busy = (socket as Socket & { _httpMessage?: { headersSent?: boolean } })._httpMessage?.headersSent === true;
  if (error.code === 'ECONNRESET' || !socket.writable || busy) {
    socket.destroy();
    return undefined;
  }
  const code = codeByParserCode[error.code ?? ''] ?? 'malformed_request';
  const problem = problemOf(new DomainError(code), requestId);
  const body = JSON.stringify(problem);
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'Content-Type: application/problem+json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    'Cache-Control: no-store',
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  return problem.status;
}

import type { FastifyReply } from 'fastify';

/**
 * What browsers are told about every answer: it is data, never a page, a frame or a script. Written out, since nothing of
 * it depends on the request: @fastify/helmet builds the same list anew each time, which measured 25 µs of CPU a request
 * where a bare Fastify route takes 55.
 */
const HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['content-security-policy', contentSecurityPolicy({ 'default-src': "'none'", 'frame-ancestors': "'none'" })],
  ['strict-transport-security', 'max-age=31536000; includeSubDomains'],
  ['x-content-type-options', 'nosniff'],
  ['x-frame-options', 'DENY'],
  ['referrer-policy', 'no-referrer'],
  ['cross-origin-opener-policy', 'same-origin'],
  ['cross-origin-resource-policy', 'same-origin'],
];

export function addSecurityHeaders(reply: FastifyReply): void {
  for (const [name, value] of HEADERS) reply.header(name, value);
}

/** The header's text from directives and their sources. */
export function contentSecurityPolicy(directives: Readonly<Record<string, string>>): string {
  return Object.entries(directives)
    .map(([name, sources]) => `${name} ${sources}`)
    .join(';');
}

import { isUtf8 } from 'node:buffer';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { DomainError } from '../domain/errors.ts';

/** Cap of a delivery. Providers send a few kilobytes; what is larger was not sent by one. */
const MAX_RAW_BYTES = 65_536;

/** Lets a scope's routes take any body unread, since a signature covers the bytes and not what they parse to. */
export function addRawParser(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: MAX_RAW_BYTES }, (_request, bytes, done) => {
    done(null, bytes);
  });
}

/**
 * The input of a raw procedure: `{ provider?, headers, raw_body }`. Bytes that are not UTF-8 cannot carry a signed JSON
 * text, and decoding them would change what was signed.
 * @throws DomainError `invalid_signature`
 */
export function readRawInput(request: FastifyRequest): unknown {
  const bytes = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
  if (!isUtf8(bytes)) throw new DomainError('invalid_signature');
  const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value ?? '')]);
  return {
    ...(request.params as Record<string, string>),
    headers: Object.fromEntries(headers),
    raw_body: bytes.toString('utf8'),
  };
}

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { RestRoute } from './rest-routes.ts';

/** Sends a procedure's answer over REST. */
export type SendAnswer = (request: FastifyRequest, reply: FastifyReply, answer: unknown) => FastifyReply;

const JSON_TYPE = 'application/json; charset=utf-8';

/** How a route answers: JSON, or what `rest.produces` says. */
export function compileAnswer({ meta }: RestRoute): SendAnswer {
  if (meta.rest?.produces === 'wg-quick') return sendWgQuick;
  return meta.rest?.produces === 'qr' ? sendImage : sendJson;
}

function sendJson(_request: FastifyRequest, reply: FastifyReply, answer: unknown): FastifyReply {
  return reply.header('content-type', JSON_TYPE).send(JSON.stringify(answer ?? null));
}

/** The configuration as a file when the client prefers text, else as JSON. */
function sendWgQuick(request: FastifyRequest, reply: FastifyReply, answer: unknown): FastifyReply {
  reply.header('vary', 'Accept');
  if (!prefersText(request.headers.accept)) return sendJson(request, reply, answer);
  const { wg_quick: config } = answer as { wg_quick: string };
  return reply
    .header('content-type', 'text/plain; charset=utf-8')
    .header('content-disposition', `attachment; filename="${fileName(request)}"`)
    .send(config);
}

/**
 * wg-quick takes the file's name for the interface's, so it must be short and plain. Nothing a user wrote gets into it:
 * a validated id at most.
 */
function fileName(request: FastifyRequest): string {
  const { peer_id: id } = request.params as { peer_id?: string };
  return id !== undefined && /^\d{1,10}$/.test(id) ? `vpn${id}.conf` : 'vpn.conf';
}

const IMAGE_TYPES: ReadonlySet<string> = new Set(['image/svg+xml', 'image/png']);

function sendImage(_request: FastifyRequest, reply: FastifyReply, answer: unknown): FastifyReply {
  const { content_type: type, base64 } = answer as { content_type: string; base64: string };
  if (!IMAGE_TYPES.has(type)) throw new Error(`${type} is not an image type that is sent`);
  return reply.header('content-type', type).send(Buffer.from(base64, 'base64'));
}

/** Whether `Accept` ranks plain text above JSON. Absent, or with wildcards only, it is JSON. */
export function prefersText(accept: string | undefined): boolean {
  if (accept === undefined || !accept.includes('text/')) return false;
  const ranges = accept.split(',').map(parseRange);
  const text = quality(ranges, ['text/plain', 'text/*']);
  return text > 0 && text > quality(ranges, ['application/json', 'application/*']);
}

type Range = readonly [type: string, quality: number];

function parseRange(range: string): Range {
  const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
  const q = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  const value = q === undefined ? 1 : Number(q);
  return [type, value >= 0 && value <= 1 ? value : 0];
}

/** The quality of the most specific range that is there; 0 when none is. */
function quality(ranges: readonly Range[], types: readonly string[]): number {
  for (const type of types) {
    const found = ranges.find(([candidate]) => candidate === type);
    if (found !== undefined) return found[1];
  }
  return 0;
}

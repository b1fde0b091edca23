import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import fastifyCors from '@fastify/cors';
import type { AnyTRPCRouter } from '@trpc/server';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { DomainError, type ErrorCode } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { addAccessLog, logUnrouted } from './access-log.ts';
import { compileTrustedProxies, type TrustedProxy } from './client-address.ts';
import { mountDocs } from './docs.ts';
import { parseJsonBody } from './json-body.ts';
import { mountMetrics } from './metrics-route.ts';
import { answerParserError } from './raw-errors.ts';
import { refusalOf, sendRefusal } from './refusal.ts';
import { mountRest } from './rest.ts';
import { addSecurityHeaders } from './security-headers.ts';
import { logInternal } from './server-errors.ts';
import { mountTrpc } from './trpc.ts';

const MAX_BODY_BYTES = 102_400;
/** A tRPC batch names its procedures in one path segment. */
const MAX_PARAM_LENGTH = 5000;
/** Slower clients than these hold a connection open for no good reason (slowloris). */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 5_000;
/** How often Node looks for connections beyond those timeouts. */
const TIMEOUT_CHECK_MS = 5_000;
const MAX_HEADER_BYTES = 16_384;
const MAX_HEADERS = 100;
/** Below the usual limit of open files, so that the database and the hosts still get theirs. */
const MAX_CONNECTIONS = 4_096;
const PREFLIGHT_SECONDS = 600;

/** What is spoken: the procedures, and the text of the OpenAPI document that describes them. */
export interface Spoken {
  readonly router: AnyTRPCRouter;
  readonly document: string;
}

/**
 * Everything that is spoken over HTTP: tRPC under `/trpc`, its REST mirror at the root, the document and its page, and
 * the metrics. Not listening yet: `await server.listen({ host, port })`, or `await server.ready()` to find mistakes in
 * the router's meta.
 */
export function buildHttpServer(services: Services, { router, document }: Spoken): FastifyInstance {
  const isTrusted = compileTrustedProxies(services.config.trustedProxies);
  const newRequestId = requestIds(services, isTrusted);
  const app = createFastify(services, newRequestId, isTrusted);
  app.server.maxHeadersCount = MAX_HEADERS;
  app.server.maxConnections = MAX_CONNECTIONS;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, async (_request: unknown, bytes: Buffer) =>
    parseJsonBody(bytes),
  );
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (_request: unknown, bytes: Buffer) => refuseBody(bytes));
  app.setErrorHandler((error, request, reply) => refuse(services, request, reply, error));
  app.setNotFoundHandler((request, reply) => sendRefusal(request, reply, new DomainError('not_found')));
  addAccessLog(app, services);
  app.addHook('onRequest', addStandardHeaders);
  addCors(app, services);
  app.addHook('onRequest', refuseEarly);
  app.register(async (scope) => {
    await mountTrpc(scope, services, router);
    await mountRest(scope, services, router);
    mountMetrics(scope, services);
    await mountDocs(scope, document);
  });
  return app;
}

function createFastify(
  services: Services,
  newRequestId: (request: IncomingMessage) => string,
  isTrusted: TrustedProxy,
): FastifyInstance {
  return Fastify({
    // Our own access log writes route patterns; Fastify's writes URLs with their query strings.
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    trustProxy: services.config.trustedProxies.length > 0 && isTrusted,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_PARAM_LENGTH },
    requestIdHeader: false,
    genReqId: newRequestId,
    // Calls that still arrive on open connections while the server stops are answered; the default is no problem+json.
    return503OnClosing: false,
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Checked by `refuseEarly`, which answers in our own words.
      requireHostHeader: false,
    },
    frameworkErrors: (error, request, reply) => {
      const refusal = refusalOf(error);
      addStandardHeaders(request as FastifyRequest, reply as FastifyReply, () => undefined);
      sendRefusal(request as FastifyRequest, reply as FastifyReply, refusal);
      logUnrouted(services, { id: request.id, method: request.method, status: reply.statusCode });
    },
    clientErrorHandler: (error, socket) => {
      const id = newRequestId({ headers: {}, socket } as IncomingMessage);
      const status = answerParserError(error, socket as Socket, id);
      if (status !== undefined) logUnrouted(services, { id, method: 'unknown', status });
    },
  });
}

/** What a proxy may send as a request id; anything else could break log lines or pose as one of ours. */
const SANE_REQUEST_ID = /^[A-Za-z0-9._-]{8,64}$/;

/** Our own ids, or those of a trusted proxy, so that its log and ours can be joined. */
function requestIds({ random }: Services, isTrusted: TrustedProxy): (request: IncomingMessage) => string {
  const prefix = Buffer.from(random.bytes(6)).toString('hex');
  let count = 0;
  return ({ headers, socket }) => {
    const given = headers['x-request-id'];
    const isSane = typeof given === 'string' && SANE_REQUEST_ID.test(given);
    if (isSane && isTrusted(socket.remoteAddress ?? '')) return given;
    count += 1;
    return `${prefix}-${count.toString(36)}`;
  };
}

/** No body is no input, whatever its type. */
function refuseBody(bytes: Buffer): undefined {
  if (bytes.length > 0) throw new DomainError('unsupported_media_type');
}

function refuse(services: Services, request: FastifyRequest, reply: FastifyReply, error: unknown): FastifyReply {
  const known = error instanceof Error ? error : new Error('a thrown value is no error', { cause: error });
  const refusal = refusalOf(known);
  if (refusal.code === 'internal_error') logInternal(services.log, known, { request_id: request.id });
  return sendRefusal(request, reply, refusal);
}

type Done = (error?: Error) => void;

function addStandardHeaders(request: FastifyRequest, reply: FastifyReply, done: Done): void {
  reply.header('x-request-id', request.id);
  addSecurityHeaders(reply);
  const isPublicRead = request.headers.authorization === undefined && request.method === 'GET';
  if (!isPublicRead) reply.header('cache-control', 'no-store');
  done();
}

/** Refuses before any byte of the body is read. */
function refuseEarly(request: FastifyRequest, _reply: FastifyReply, done: Done): void {
  const code = earlyRefusal(request);
  done(code === undefined ? undefined : new DomainError(code));
}

function earlyRefusal(request: FastifyRequest): ErrorCode | undefined {
  const { headers, raw } = request;
  const lacksHost = headers.host === undefined && raw.httpVersion === '1.1';
  // A target such as `*` is none of our paths, though the router would take it for the root.
  if (lacksHost || raw.url?.startsWith('/') !== true) return 'malformed_request';
  // Where a trailing slash does not count, `//` would be the root.
  if (request.is404 || raw.url.startsWith('//')) return 'not_found';
  const encoding = headers['content-encoding'];
  // A compressed body can be a thousand times its size; no client of ours sends one.
  return encoding !== undefined && encoding !== 'identity' ? 'unsupported_media_type' : undefined;
}

/** Other origins read answers only where they are listed. Calls carry a token in a header, never a cookie. */
function addCors(app: FastifyInstance, { config }: Services): void {
  if (config.corsOrigins.length === 0) return;
  app.register(fastifyCors, {
    origin: [...config.corsOrigins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    allowedHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'Trpc-Accept'],
    exposedHeaders: ['X-Total-Count', 'X-Request-Id', 'Retry-After', 'Idempotency-Replayed'],
    maxAge: PREFLIGHT_SECONDS,
    // Its own refusal of an incomplete preflight is plain text.
    strictPreflight: false,
  });
}

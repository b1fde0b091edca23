import { type AnyTRPCRouter, getTRPCErrorShape, type TRPCError } from '@trpc/server';
import { type FastifyHandlerOptions, fastifyRequestHandler } from '@trpc/server/adapters/fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Context, makeContext } from '../api/context.ts';
import { tagWithRequest, toDomainError, toTrpcError } from '../api/problem.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { checkedJsonText, checkJsonDepth } from './json-body.ts';
import { needsChallenge, refusalOf } from './refusal.ts';
import { requestInfo } from './request-info.ts';
import { logInternal } from './server-errors.ts';

/** One HTTP request may carry this many calls; more would turn one request into a flood. */
export const MAX_BATCH = 10;

/**
 * tRPC under `/trpc`, in a scope of its own: other body parsers, and refusals in tRPC's envelope. The adapter's request
 * handler is mounted by hand, since its plugin takes any method and replaces parsers.
 */
export async function mountTrpc(app: FastifyInstance, services: Services, router: AnyTRPCRouter): Promise<void> {
  await app.register(
    async (scope) => {
      scope.removeAllContentTypeParsers();
      scope.addContentTypeParser('application/json', { parseAs: 'buffer' }, parseBody);
      scope.addContentTypeParser('*', { parseAs: 'buffer' }, refuseBody);
      const refuse = refuser(services, router);
      scope.setErrorHandler((error, request, reply) => refuse(request, reply, refusalOf(error)));
      scope.setNotFoundHandler((request, reply) => refuse(request, reply, new DomainError('not_found')));
      const handle = handler(services, router);
      scope.route({ method: ['GET', 'POST'], url: '/:path', handler: handle });
      scope.route({
        method: ['PUT', 'DELETE', 'PATCH', 'OPTIONS'],
        url: '/:path',
        onRequest: (_request, reply, done) => {
          reply.header('allow', 'GET, HEAD, POST');
          done(new DomainError('method_not_allowed'));
        },
        handler: handle,
      });
    },
    { prefix: '/trpc' },
  );
}

type BodyDone = (error: Error | null, body?: unknown) => void;

function parseBody(_request: FastifyRequest, bytes: Buffer, done: BodyDone): void {
  try {
    done(null, checkedJsonText(bytes));
  } catch (error) {
    done(error as Error);
  }
}

function refuseBody(_request: FastifyRequest, bytes: Buffer, done: BodyDone): void {
  if (bytes.length === 0) done(null, undefined);
  else done(new DomainError('unsupported_media_type'));
}

type Handle = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>;

function handler(services: Services, router: AnyTRPCRouter): Handle {
  const options = {
    router,
    maxBatchSize: MAX_BATCH,
    responseMeta: ({ ctx, info, errors }) => ({
      headers: {
        ...answerHeaders(ctx as Context | undefined, errors),
        // What tRPC refuses before it has read the calls would go out as plain text.
        ...(info === undefined ? { 'content-type': 'application/json' } : {}),
      },
    }),
    onError: ({ error, req }) => {
      tagWithRequest(error, req.id);
      logInternal(services.log, error, { request_id: req.id });
    },
  } satisfies Partial<FastifyHandlerOptions<AnyTRPCRouter, FastifyRequest, FastifyReply>>;
  return async (request, reply) => {
    const { input } = request.query as { input?: string | string[] };
    if (typeof input === 'string') checkJsonDepth(input);
    const { path } = request.params as { path: string };
    await fastifyRequestHandler({
      ...options,
      req: request,
      res: reply,
      path,
      createContext: ({ info }) =>
        makeContext(services, requestInfo(request, { transport: 'trpc', callCount: info.calls.length })),
    });
    return reply;
  };
}

function answerHeaders(ctx: Context | undefined, errors: readonly TRPCError[]): Record<string, string> {
  // The adapter's own `Vary` would replace the one of the CORS plugin.
  const headers = { vary: 'Origin, trpc-accept, accept', ...Object.fromEntries(ctx?.responseHeaders ?? []) };
  const challenged = errors.some((error) => needsChallenge(toDomainError(error).code));
  return challenged ? { ...headers, 'www-authenticate': 'Bearer' } : headers;
}

/** A refusal in tRPC's envelope, for what tRPC itself never sees. */
function refuser(services: Services, router: AnyTRPCRouter) {
  return (request: FastifyRequest, reply: FastifyReply, refusal: DomainError): FastifyReply => {
    logInternal(services.log, refusal, { request_id: request.id });
    const error = toTrpcError(refusal);
    tagWithRequest(error, request.id);
    const config = router._def._config;
    const shape = getTRPCErrorShape({
      config,
      error,
      type: 'unknown',
      path: undefined,
      input: undefined,
      ctx: undefined,
    });
    const status = (shape as { data: { httpStatus: number } }).data.httpStatus;
    return reply
      .code(status)
      .header('content-type', 'application/json')
      .send(JSON.stringify({ error: shape }));
  };
}

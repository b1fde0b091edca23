import type { AnyTRPCProcedure, AnyTRPCRouter } from '@trpc/server';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { makeContext } from '../api/context.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { addFormParser } from './form-body.ts';
import { addRawParser, readRawInput } from './raw-body.ts';
import { requestInfo } from './request-info.ts';
import { compileAnswer, type SendAnswer } from './rest-answer.ts';
import { compileInput, type ReadInput } from './rest-input.ts';
import { fastifyPath, type RestRoute, restRoutes } from './rest-routes.ts';

/**
 * One Fastify route for every REST route of the router. What can be decided from meta and schemas is decided here, at
 * start-up; a request only copies values and calls the procedure.
 */
export async function mountRest(app: FastifyInstance, services: Services, router: AnyTRPCRouter): Promise<void> {
  const routes = restRoutes(router);
  const add = (scope: FastifyInstance, kind: BodyKind) => {
    for (const route of routes.filter((candidate) => bodyKind(candidate) === kind))
      addRoute(scope, services, router, route);
  };
  add(app, 'json');
  await app.register(async (scope) => {
    addFormParser(scope);
    add(scope, 'form');
  });
  await app.register(async (scope) => {
    addRawParser(scope);
    add(scope, 'raw');
  });
  refuseOtherMethods(app, routes);
}

type BodyKind = 'json' | 'form' | 'raw';

function bodyKind({ meta }: RestRoute): BodyKind {
  if (meta.rest?.raw) return 'raw';
  return meta.rest?.form === undefined ? 'json' : 'form';
}

function addRoute(scope: FastifyInstance, services: Services, router: AnyTRPCRouter, route: RestRoute): void {
  const read = route.meta.rest?.raw ? readRawInput : compileInput(route);
  const handle = handler({ services, router, route, read, send: compileAnswer(route) });
  scope.route({ method: route.method, url: fastifyPath(route.path), handler: handle });
}

interface Handling {
  readonly services: Services;
  readonly router: AnyTRPCRouter;
  readonly route: RestRoute;
  readonly read: ReadInput;
  readonly send: SendAnswer;
}

function handler({ services, router, route, read, send }: Handling) {
  const { procedure: path, type } = route;
  // Called as tRPC's own adapters do, with no more options than it reads: it copies them for every middleware.
  const call = (router._def.procedures as Record<string, AnyTRPCProcedure>)[path];
  if (call === undefined) throw new Error(`${path} is not in the router`);
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const ctx = makeContext(services, requestInfo(request, { transport: 'rest', callCount: 1 }));
    const input = read(request);
    const result = call({ path, type, ctx, getRawInput: async () => input, signal: undefined, batchIndex: 0 });
    const answer = await result.finally(() => addHeaders(reply, ctx.responseHeaders));
    return send(request, reply, answer);
  };
}

/** Also on a refusal: `Retry-After` belongs to it. */
function addHeaders(reply: FastifyReply, headers: ReadonlyMap<string, string>): void {
  for (const [name, value] of headers) reply.header(name, value);
}

const METHODS: readonly HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'];

/**
 * Every path answers 405 to the methods it does not have. Fixed paths too: without it `GET /vpn_peers/self` would be taken
 * for the peer `self`.
 */
function refuseOtherMethods(app: FastifyInstance, routes: readonly RestRoute[]): void {
  const byPath = Map.groupBy(routes, ({ path }) => path.replaceAll(/\{[a-z0-9_]+\}/g, '{}'));
  for (const here of byPath.values()) {
    const own = here.flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
    const allow = [...own, 'OPTIONS'].join(', ');
    app.route({
      method: METHODS.filter((method) => !own.includes(method as string)),
      url: fastifyPath(here[0]?.path ?? '/'),
      // Before the body is read: what is not allowed is not parsed either.
      onRequest: (request, reply, done) => {
        reply.header('allow', allow);
        if (request.method === 'OPTIONS') reply.code(204).send();
        else done(new DomainError('method_not_allowed'));
      },
      handler: () => undefined,
    });
  }
}

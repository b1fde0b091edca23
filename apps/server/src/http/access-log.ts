import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Services } from '../services.ts';
import { clientAddress } from './client-address.ts';

type Deps = Pick<Services, 'log' | 'metrics'>;

/** Probes and scrapers call every few seconds; their lines would bury the others. */
const QUIET_ROUTES: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics']);

/** One line and one sample for every answer: with the route's pattern, never the path or the query string. */
export function addAccessLog(app: FastifyInstance, { log, metrics }: Deps): void {
  app.addHook('onResponse', (request, reply, done) => {
    const route = routeOf(request);
    const { statusCode: status, elapsedTime } = reply;
    metrics.observeRequest({ method: request.method, route, status, seconds: elapsedTime / 1000 });
    const level = route !== undefined && QUIET_ROUTES.has(route) ? 'debug' : 'info';
    if (log.isLevelEnabled(level)) log[level](line(request, reply, route), 'request');
    done();
  });
}

function line(request: FastifyRequest, reply: FastifyReply, route: string | undefined) {
  return {
    request_id: request.id,
    method: request.method,
    route: route ?? 'unknown',
    status: reply.statusCode,
    ms: Math.round(reply.elapsedTime * 10) / 10,
    ip: clientAddress(request),
  };
}

/** `/tariffs/:tariff_id`; undefined when nothing matched. */
function routeOf(request: FastifyRequest): string | undefined {
  return request.routeOptions.url;
}

/** For answers that are given before routing, which run no hooks. */
export function logUnrouted({ log, metrics }: Deps, request: { id: string; method: string; status: number }): void {
  metrics.observeRequest({ method: request.method, route: undefined, status: request.status, seconds: 0 });
  log.info({ request_id: request.id, method: request.method, route: 'unknown', status: request.status }, 'request');
}

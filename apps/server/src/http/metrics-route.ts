import type { FastifyInstance, FastifyRequest } from 'fastify';
import { equalsConstantTime } from '../crypto/random.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { isLoopback } from './client-address.ts';

/** What a proxy on this machine adds for a client that is not on it. */
const FORWARDING_HEADERS = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'x-forwarded-host', 'via'] as const;

/** `GET /metrics`: with the token when one is configured, else only for callers on this machine. */
export function mountMetrics(app: FastifyInstance, { metrics, config }: Services): void {
  const { metricsToken } = config.secrets;
  app.get('/metrics', async (request, reply) => {
    if (metricsToken === undefined) refuseRemote(request);
    else refuseWithout(metricsToken, request);
    const { contentType, body } = await metrics.render();
    return reply.header('cache-control', 'no-store').header('content-type', contentType).send(body);
  });
}

function refuseRemote({ headers, socket }: FastifyRequest): void {
  const isForwarded = FORWARDING_HEADERS.some((name) => headers[name] !== undefined);
  if (isForwarded || !isLoopback(socket.remoteAddress ?? '')) throw new DomainError('not_allowed');
}

function refuseWithout(token: string, { headers }: FastifyRequest): void {
  const [, given] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  if (given === undefined) throw new DomainError('not_authenticated');
  if (!equalsConstantTime(given, token)) throw new DomainError('invalid_token');
}

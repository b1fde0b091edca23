import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import type { AnyTRPCRouter } from '@trpc/server';
import type { FastifyInstance } from 'fastify';
import { type Config, loadConfig } from '../../src/config/config.ts';
import { systemRandom } from '../../src/crypto/random.ts';
import { buildOpenApiDocument } from '../../src/http/openapi.ts';
import { RateLimiter } from '../../src/http/rate-limit.ts';
import { buildHttpServer } from '../../src/http/server.ts';
import { createLogger } from '../../src/obs/log.ts';
import { Metrics } from '../../src/obs/metrics.ts';
import type { Services } from '../../src/services.ts';
import { fixtureRouter } from './fixture-router.ts';

const environment = {
  NODE_ENV: 'test',
  SECRET_KEY: 'test-only-secret-key-0123456789abcdef',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString('base64'),
  RATE_LIMITS: '0',
};

export interface FixtureOptions {
  /** Environment variables beside the ones that a test server needs. */
  readonly env?: Readonly<Record<string, string>>;
  readonly router?: AnyTRPCRouter;
  readonly services?: Partial<Services>;
}

export interface FixtureServer extends AsyncDisposable {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly port: number;
  /** Log lines so far, parsed. */
  readonly lines: readonly Record<string, unknown>[];
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** POST or PUT of a JSON body. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
  /** Writes bytes to a connection and answers everything that came back until it closed. */
  raw(bytes: string | Buffer): Promise<string>;
}

/** Only what transports use; a procedure that needs the database is out of place in these tests. */
function fixtureServices(config: Config, lines: Record<string, unknown>[]): Services {
  const write = (line: string) => lines.push(JSON.parse(line));
  const services: Partial<Services> = {
    config,
    random: systemRandom,
    log: createLogger({ level: 'info', write }),
    metrics: new Metrics({ processMetrics: false }),
    rateLimiter: new RateLimiter(config.rateLimits),
    healthChecks: new Map(),
    version: '1.2.3',
  };
  return services as Services;
}

/** A real server on loopback around the fixture router. */
export async function startFixture(options: FixtureOptions = {}): Promise<FixtureServer> {
  const lines: Record<string, unknown>[] = [];
  const { config } = loadConfig({ ...environment, ...options.env });
  const services = { ...fixtureServices(config, lines), ...options.services };
  const router = options.router ?? fixtureRouter;
  const document = JSON.stringify(buildOpenApiDocument(router, services.version));
  const app = buildHttpServer(services, { router, document });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    fetch(`${url}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
  return {
    app,
    url,
    port,
    lines,
    fetch: (path, init) => fetch(`${url}${path}`, init),
    send,
    raw: (bytes) => exchange(port, bytes),
    [Symbol.asyncDispose]: () => app.close(),
  };
}

function exchange(port: number, bytes: string | Buffer): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
  let received = '';
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  // A reset is an answer too; the text so far says what was seen.
  socket.on('error', () => resolve(received));
  socket.on('close', () => resolve(received));
  return promise;
}

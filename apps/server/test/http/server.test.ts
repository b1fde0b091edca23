import { describe, expect, it } from 'vitest';
import type { Problem } from '../../src/api/problem.ts';
import { startFixture } from './fixture-server.ts';

const close = 'Connection: close\r\n';
const get = (target: string, headers = '') => `GET ${target} HTTP/1.1\r\nHost: a\r\n${headers}${close}\r\n`;

describe('odd bytes', () => {
  it.each([
    ['a double slash', get('//'), 404],
    ['a host in the target', get('http://['), 400],
    ['a bad port in the target', get('http://a:99999/'), 400],
    ['a backslash', get('/\\\\:99999'), 404],
    ['a star', get('*'), 400],
    ['no host', `GET /health HTTP/1.1\r\n${close}\r\n`, 400],
    ['an encoded line end in the path', get('/things/%0d%0aX-Evil:1'), 400],
    ['garbage', '\x00\x01\x02garbage\r\n\r\n', 400],
    ['TLS', Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]), 400],
    ['a lower-case method', `get /health HTTP/1.1\r\nHost: a\r\n${close}\r\n`, 400],
    ['two lengths', `POST /things HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
    [
      'length and chunks',
      `POST /things HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    [
      'a bad chunk',
      `POST /things HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
      400,
    ],
    ['a folded header', get('/health', 'X-A: 1\r\n 2\r\n'), 400],
    ['20 KB of headers', get('/health', `X-A: ${'a'.repeat(20_000)}\r\n`), 431],
  ])('%s gets a problem and the server lives on', async (_name, bytes, status) => {
    await using server = await startFixture();
    const answer = await server.raw(bytes);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(head.toLowerCase()).toContain('content-type: application/problem+json');
    expect(JSON.parse(body)).toMatchObject({ type: 'about:blank', status });
    expect(head.toLowerCase()).toContain('x-request-id: ');
    expect(await (await server.fetch('/health')).json()).toEqual({ status: 'ok' });
  });

  it('a bad host is refused by tRPC in its own envelope', async () => {
    await using server = await startFixture();
    const answer = await server.raw(`GET /trpc/odd.nothing HTTP/1.1\r\nHost: a:99999\r\n${close}\r\n`);
    const { error } = JSON.parse(answer.split('\r\n\r\n')[1] ?? '');
    expect(error.data.problem).toMatchObject({ status: 400, code: 'validation_failed' });
  });

  it('a peer that hangs up in the middle harms nobody', async () => {
    await using server = await startFixture();
    await server.raw(`GET /health HTTP/1.1\r\nHost: a\r\n${close}\r\nGET /hea`);
    expect((await server.fetch('/health')).status).toBe(200);
  });
});

describe('slow and greedy clients', () => {
  it('are cut off by time, headers and connections', async () => {
    await using server = await startFixture();
    const { headersTimeout, requestTimeout, keepAliveTimeout, maxHeadersCount, maxConnections } = server.app.server;
    expect({ headersTimeout, requestTimeout, keepAliveTimeout, maxHeadersCount, maxConnections }).toEqual({
      headersTimeout: 10_000,
      requestTimeout: 30_000,
      keepAliveTimeout: 5_000,
      maxHeadersCount: 100,
      maxConnections: 4_096,
    });
  });
});

describe('request ids', () => {
  it('are ours and different, whatever a client sends', async () => {
    await using server = await startFixture();
    const headers = { 'x-request-id': 'forged-request-id' };
    const ids = await Promise.all(
      [1, 2].map(async () => (await server.fetch('/health', { headers })).headers.get('x-request-id')),
    );
    expect(new Set([...ids, 'forged-request-id']).size).toBe(3);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/);
  });

  it('are taken from a trusted proxy when they are sane', async () => {
    await using server = await startFixture({ env: { TRUSTED_PROXIES: '127.0.0.1' } });
    const idFor = async (given: string) =>
      (await server.fetch('/health', { headers: { 'x-request-id': given } })).headers.get('x-request-id');
    expect(await idFor('proxy-id-1')).toBe('proxy-id-1');
    expect(await idFor('short')).not.toBe('short');
    expect(await idFor('with blank 12345')).not.toContain(' ');
  });
});

describe('client addresses', () => {
  const ipOf = async (env: Record<string, string>, forwarded: string) => {
    await using server = await startFixture({ env });
    const response = await server.fetch('/request', { headers: { 'x-forwarded-for': forwarded } });
    return ((await response.json()) as { ip: string }).ip;
  };

  it('are those of the connection when nobody is trusted', async () => {
    expect(await ipOf({}, '203.0.113.9')).toBe('127.0.0.1');
  });

  it('are the right-most hop that no trusted proxy is', async () => {
    const env = { TRUSTED_PROXIES: '127.0.0.1,10.0.0.0/8' };
    expect(await ipOf(env, '198.51.100.1, 203.0.113.9, 10.1.2.3')).toBe('203.0.113.9');
    expect(await ipOf(env, '203.0.113.9, ::ffff:10.1.2.3')).toBe('203.0.113.9');
  });

  it('are never what is no address', async () => {
    expect(await ipOf({ TRUSTED_PROXIES: '127.0.0.1' }, 'unknown')).toBe('127.0.0.1');
  });
});

describe('other origins', () => {
  const origin = 'https://app.example';

  it('get nothing unless they are listed', async () => {
    await using server = await startFixture();
    const response = await server.fetch('/health', { headers: { origin } });
    expect(response.headers.has('access-control-allow-origin')).toBe(false);
  });

  it('may call and read our headers when they are listed', async () => {
    await using server = await startFixture({ env: { CORS_ORIGINS: `${origin},https://b.example` } });
    for (const path of ['/health', '/trpc/odd.nothing', '/nowhere']) {
      const response = await server.fetch(path, { headers: { origin } });
      expect(response.headers.get('access-control-allow-origin')).toBe(origin);
      expect(response.headers.get('access-control-expose-headers')).toBe(
        'X-Total-Count, X-Request-Id, Retry-After, Idempotency-Replayed',
      );
      expect(response.headers.get('vary')).toMatch(/origin/i);
      expect(response.headers.has('access-control-allow-credentials')).toBe(false);
    }
    const preflight = await server.fetch('/things/5', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-methods')).toBe('GET, HEAD, POST, PUT, DELETE');
    expect(preflight.headers.get('access-control-allow-headers')).toMatch(/Authorization/);
  });

  it.each([
    'null',
    'https://evil.example',
    'https://app.example.evil.example',
    'http://app.example',
    'https://x.app.example',
  ])('%s is not the listed one', async (other) => {
    await using server = await startFixture({ env: { CORS_ORIGINS: origin } });
    const response = await server.fetch('/health', { headers: { origin: other } });
    expect(response.headers.has('access-control-allow-origin')).toBe(false);
  });
});

describe('headers for browsers', () => {
  it('forbid an answer to be anything but data', async () => {
    await using server = await startFixture();
    for (const path of ['/health', '/nowhere', '/trpc/odd.nothing']) {
      const { headers } = await server.fetch(path);
      expect(headers.get('content-security-policy')).toBe("default-src 'none';frame-ancestors 'none'");
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
      expect(headers.get('strict-transport-security')).toContain('max-age=');
      expect(headers.has('x-powered-by')).toBe(false);
    }
  });
});

describe('the docs page', () => {
  it('runs on files and calls of this origin only', async () => {
    await using server = await startFixture();
    for (const path of ['/docs', '/docs/']) {
      const response = await server.fetch(path);
      expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
      const policy = response.headers.get('content-security-policy') ?? '';
      expect(policy).toContain("default-src 'none';script-src 'self';style-src 'self';connect-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain('unsafe');
      const page = await response.text();
      expect(page).not.toMatch(/https?:|<script>|<style|\son\w+=/);
      const links = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link = '']) => link);
      expect(links).toHaveLength(4);
      for (const link of links) expect((await server.fetch(link)).status).toBe(200);
    }
  });

  it('serves nothing else of its package', async () => {
    await using server = await startFixture();
    for (const path of [
      '/docs/package.json',
      '/docs/..%2fpackage.json',
      '/docs/index.html',
      '/docs/swagger-ui-bundle.js.map',
    ]) {
      expect((await server.fetch(path)).status).toBe(404);
    }
  });
});

describe('metrics', () => {
  it('are read on this machine, and not through a proxy, when there is no token', async () => {
    await using server = await startFixture();
    await server.fetch('/things/5');
    const response = await server.fetch('/metrics');
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('route="/things/:thing_id"');
    for (const header of ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via']) {
      expect((await server.fetch('/metrics', { headers: { [header]: '127.0.0.1' } })).status).toBe(403);
    }
  });

  it('need the token when there is one', async () => {
    await using server = await startFixture({ env: { METRICS_TOKEN: 'a-metrics-token-of-32-characters' } });
    const read = async (authorization?: string) =>
      (await server.fetch('/metrics', { headers: authorization === undefined ? {} : { authorization } })).status;
    expect(await read()).toBe(401);
    expect(await read('Bearer wrong')).toBe(401);
    expect(await read('Bearer a-metrics-token-of-32-characters')).toBe(200);
  });
});

describe('the access log', () => {
  it('has one line a request, with the route and without the query string', async () => {
    await using server = await startFixture();
    const response = await server.fetch('/things/5?secret=hunter2&limit=1');
    const lines = server.lines.filter(({ msg }) => msg === 'request');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({
      request_id: response.headers.get('x-request-id'),
      method: 'GET',
      route: '/things/:thing_id',
      status: 200,
      ip: '127.0.0.1',
    });
    expect(JSON.stringify(server.lines)).not.toContain('hunter2');
  });

  it('is quiet about probes and names what never reached a route', async () => {
    await using server = await startFixture();
    await server.fetch('/health');
    await server.raw('garbage\r\n\r\n');
    await server.fetch('/things/%zz');
    await server.fetch('/nowhere/123');
    expect(server.lines.map(({ route, status }) => [route, status])).toEqual([
      ['unknown', 400],
      ['unknown', 400],
      ['unknown', 404],
    ]);
  });
});

describe('rate limits', () => {
  it('count every call of a batch and say how long to wait on both transports', async () => {
    await using server = await startFixture({ env: { RATE_LIMITS: 'auth=3/min,default=0' } });
    const login = (count: number) =>
      server.send('POST', `/trpc/${Array.from({ length: count }, () => 'odd.login').join(',')}?batch=1`, {});
    const answers = (await (await login(10)).json()) as { error?: { data: { problem: Problem } } }[];
    const limited = answers.filter(({ error }) => error?.data.problem.code === 'rate_limited');
    expect(limited).toHaveLength(7);
    const rest = await server.send('POST', '/login', { email: 'a', password: 'b' });
    expect(rest.status).toBe(429);
    expect(Number(rest.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await server.fetch('/health')).status).toBe(200);
  });
});

describe('system procedures', () => {
  it('greet as the service before did', async () => {
    await using server = await startFixture();
    expect(await (await server.fetch('/')).json()).toEqual({ msg: 'VPN API is running', version: '1.2.3' });
    expect((await server.fetch('/', { method: 'HEAD' })).status).toBe(200);
    expect((await server.fetch('/', { method: 'POST' })).status).toBe(405);
  });

  it('tell which part is not ready, and not why', async () => {
    const checks = new Map<string, () => Promise<string | undefined>>([
      ['database', () => Promise.reject(new Error('connect postgres://vpn:hunter2@db'))],
      ['reconciler', () => Promise.resolve(undefined)],
      ['mail', () => Promise.resolve('is behind')],
    ]);
    await using server = await startFixture({ services: { healthChecks: checks } });
    const response = await server.fetch('/ready');
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('5');
    expect(await response.json()).toMatchObject({
      code: 'unavailable',
      issues: [
        { path: 'database', message: 'failed' },
        { path: 'mail', message: 'is behind' },
      ],
    });
    expect((await server.fetch('/health')).status).toBe(200);
    checks.clear();
    expect(await (await server.fetch('/ready')).json()).toEqual({ status: 'ready' });
  });
});

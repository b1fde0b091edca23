import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { ProviderError } from '../../src/pay/provider.ts';
import { type ProviderRequest, providerHttp } from '../../src/pay/provider-http.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server[Symbol.asyncDispose]();
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const SECRET = 'sk_live_c4n4ry';

function call(baseUrl: string, request: Partial<ProviderRequest> = {}, signal = AbortSignal.timeout(5_000)) {
  const http = providerHttp({ name: 'shop', baseUrl: `${baseUrl}/bot${SECRET}`, headers: { authorization: SECRET } });
  return http.request({ method: 'POST', path: '/thing', ...request }, signal);
}

async function failure(
  baseUrl: string,
  method: 'GET' | 'POST',
  signal?: AbortSignal,
  request: Partial<ProviderRequest> = {},
) {
  const error = await call(baseUrl, { method, ...request }, signal).then(
    () => undefined,
    (thrown: unknown) => thrown as ProviderError,
  );
  expect(error?.name).toBe('ProviderError');
  expect(JSON.stringify([error?.message, error?.stack, error?.cause ?? null])).not.toContain(SECRET);
  return error?.kind;
}

const answer =
  (status: number, body: string, headers: Record<string, string> = {}): RequestListener =>
  (_, response) =>
    void response.writeHead(status, headers).end(body);

describe('a request', () => {
  it('carries its query, form, JSON and headers, and answers status, headers and JSON', async () => {
    const seen: unknown[] = [];
    const url = await serve(async (request, response) => {
      const body = (await request.toArray()).join('');
      seen.push([request.method, request.url, request.headers['content-type'], request.headers['x-own'], body]);
      response.writeHead(200, { 'x-answer': 'yes' }).end('{"a":[1]}');
    });
    const query = { a: 'b c', left: undefined, 'expand[]': 'x' };
    const get = await call(url, { method: 'GET', query, headers: { 'x-own': '1' } });
    await call(url, { form: { 'a[b]': 'ü&=' } });
    await call(url, { json: { a: 1 } });
    expect(get).toMatchObject({ status: 200, body: { a: [1] }, raw: '{"a":[1]}', headers: { 'x-answer': 'yes' } });
    const path = `/bot${SECRET}/thing`;
    expect(seen).toEqual([
      ['GET', `${path}?a=b+c&expand%5B%5D=x`, undefined, '1', ''],
      ['POST', path, 'application/x-www-form-urlencoded', undefined, 'a%5Bb%5D=%C3%BC%26%3D'],
      ['POST', path, 'application/json', undefined, '{"a":1}'],
    ]);
  });

  it('answers a status that its caller accepts, but only with JSON', async () => {
    const url = await serve(answer(404, '{"gone":true}'));
    expect(await call(url, { method: 'GET', accept: [404] })).toMatchObject({ status: 404, body: { gone: true } });
    const page = await serve(answer(404, '<html>'));
    expect(await failure(page, 'GET', undefined, { accept: [404] })).toBe('unavailable');
  });
});

describe('the kind of a failure says what may have happened', () => {
  it.each([
    ['400', 400, '{}', 'refused', 'refused'],
    ['401', 401, '{}', 'refused', 'refused'],
    ['404', 404, '{}', 'refused', 'refused'],
    ['408', 408, '{}', 'unknown', 'unavailable'],
    ['429', 429, 'slow down', 'unavailable', 'unavailable'],
    ['500', 500, '{}', 'unknown', 'unavailable'],
    ['502 as a page', 502, '<html>', 'unknown', 'unavailable'],
    ['403 as a page', 403, '<html>', 'unknown', 'unavailable'],
    ['200 as a page', 200, '<html>', 'unknown', 'unavailable'],
    ['an empty 200', 200, '', 'unknown', 'unavailable'],
  ] as const)('%s', async (_, status, body, posted, read) => {
    const url = await serve(answer(status, body));
    expect(await failure(url, 'POST')).toBe(posted);
    expect(await failure(url, 'GET')).toBe(read);
  });

  it('a redirect is not followed', async () => {
    let calls = 0;
    const url = await serve((request, response) => {
      calls += 1;
      answer(307, '{}', { location: '/elsewhere' })(request, response);
    });
    expect(await failure(url, 'POST')).toBe('unknown');
    expect(await failure(url, 'GET')).toBe('unavailable');
    expect(calls).toBe(2);
  });

  it('nobody listens: nothing happened', async () => {
    const url = await serve(answer(200, '{}'));
    await open.pop()?.[Symbol.asyncDispose]();
    expect(await failure(url, 'POST')).toBe('unavailable');
    expect(await failure(url, 'GET')).toBe('unavailable');
  });

  it('no such host: nothing happened', async () => {
    expect(await failure('http://no-such-host.invalid', 'POST')).toBe('unavailable');
  });

  it('the connection breaks before the answer: unknown', async () => {
    const url = await serve((request) => void request.socket.destroy());
    expect(await failure(url, 'POST')).toBe('unknown');
    expect(await failure(url, 'GET')).toBe('unavailable');
  });

  it('the connection breaks within the answer: unknown', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{"a":');
      setImmediate(() => response.destroy());
    });
    expect(await failure(url, 'POST')).toBe('unknown');
  });

  it('the caller gives up while it hangs: unknown', async () => {
    const giveUp = new AbortController();
    const url = await serve(() => giveUp.abort());
    expect(await failure(url, 'POST', giveUp.signal)).toBe('unknown');
  });

  it('the caller gave up before: nothing was sent', async () => {
    let calls = 0;
    const url = await serve((request, response) => {
      calls += 1;
      answer(200, '{}')(request, response);
    });
    expect(await failure(url, 'POST', AbortSignal.abort())).toBe('unavailable');
    expect(calls).toBe(0);
  });

  it('an answer without end is cut off', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200);
      const chunk = 'x'.repeat(65_536);
      const more = () => {
        while (!response.destroyed && response.write(chunk));
        response.once('drain', more);
      };
      more();
    });
    expect(await failure(url, 'POST')).toBe('unknown');
  });
});

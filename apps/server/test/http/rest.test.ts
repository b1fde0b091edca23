import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Problem } from '../../src/api/problem.ts';
import { type FixtureServer, startFixture } from './fixture-server.ts';

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server[Symbol.asyncDispose]());

async function problem(answer: Promise<Response>) {
  const response = await answer;
  expect(response.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  const body = (await response.json()) as Problem;
  expect(body).toMatchObject({ type: 'about:blank', status: response.status });
  expect(body.request_id).toBe(response.headers.get('x-request-id'));
  return body;
}

describe('query strings', () => {
  it.each([
    ['limit=5', { limit: 5 }],
    ['flag=true', { flag: true }],
    ['flag=false', { flag: false }],
    ['ratio=-1.5', { ratio: -1.5 }],
    ['ids=1&ids=2', { ids: [1, 2] }],
    ['ids=7', { ids: [7] }],
    ['price=9.99', { price: '9.99' }],
    ['sort=up', { sort: 'up' }],
    ['after_id=0', { after_id: 0 }],
    ['unknown=1&toString=2', { limit: 100 }],
    ['__proto__=1&constructor=2&prototype=3&hasOwnProperty=4&valueOf=5', { limit: 100 }],
  ])('%s is read as the schema means it', async (query, expected) => {
    const response = await server.fetch(`/things?${query}`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject(expected);
  });

  it.each([
    'limit=',
    'limit=05',
    'limit=5.5',
    'limit=1e1',
    'limit=0x10',
    'limit=%205',
    'limit=101',
    'limit=-0',
    'limit=99999999999999999999999',
    'flag=1',
    'flag=TRUE',
    'flag=',
    'limit=1&limit=2',
    'flag=true&flag=true',
    'ids=1&ids=x',
    'sort=sideways',
  ])('%s is 400', async (query) => {
    expect(await problem(server.fetch(`/things?${query}`))).toMatchObject({ status: 400, code: 'validation_failed' });
  });

  it('give a POST only the keys that its meta names, and the body wins', async () => {
    const answer = await server.send('POST', '/things/create?count=3&flag=true&name=query', { count: 4 });
    expect(await answer.json()).toEqual({ count: 4, flag: true });
  });

  it('never pollute a prototype', () => {
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });
});

describe('paths', () => {
  it.each(['/things/5', '/things/5/', '/things/5?thing_id=6'])('%s names thing 5', async (path) => {
    expect(await (await server.fetch(path)).json()).toEqual({ thing_id: 5 });
  });

  it.each(['/things/abc', '/things/0', '/things/-1', '/things/2147483648', '/things/__proto__', '/things/1%2F2'])(
    '%s is 400',
    async (path) => {
      expect(await problem(server.fetch(path))).toMatchObject({ status: 400, code: 'validation_failed' });
    },
  );

  it('with broken percent-encoding are 400', async () => {
    expect(await problem(server.fetch('/things/%zz'))).toMatchObject({ status: 400, code: 'malformed_request' });
  });

  it('that are too long are 414', async () => {
    const path = `/things/${'9'.repeat(5001)}`;
    expect(await problem(server.fetch(path))).toMatchObject({ status: 414, code: 'uri_too_long' });
  });

  it('that nobody knows are 404, whatever the body', async () => {
    expect(await problem(server.send('POST', '/nowhere', '{broken'))).toMatchObject({ status: 404, code: 'not_found' });
    expect(await problem(server.fetch('/trpcx'))).toMatchObject({ status: 404 });
    expect(await problem(server.fetch('//'))).toMatchObject({ status: 404 });
  });
});

describe('methods', () => {
  it('that a path lacks are 405 and named in Allow', async () => {
    const response = await server.fetch('/things/5', { method: 'PATCH' });
    expect(response.headers.get('allow')).toBe('GET, HEAD, PUT, DELETE, OPTIONS');
    expect(await problem(Promise.resolve(response))).toMatchObject({ status: 405, code: 'method_not_allowed' });
  });

  it('never reach a path with a key by way of a fixed path', async () => {
    const response = await server.fetch('/things/self');
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST, OPTIONS');
    expect((await server.fetch('/things/self/', { method: 'DELETE' })).status).toBe(405);
    expect((await server.fetch('/things/self', { method: 'HEAD' })).status).toBe(405);
  });

  it('are refused before the body is read', async () => {
    const response = await server.fetch('/things/5', {
      method: 'POST',
      body: 'x',
      headers: { 'content-type': 'text/x' },
    });
    expect(response.status).toBe(405);
  });

  it('OPTIONS names the methods of a path', async () => {
    const response = await server.fetch('/things', { method: 'OPTIONS' });
    expect(response.status).toBe(204);
    expect(response.headers.get('allow')).toBe('GET, HEAD, POST, OPTIONS');
  });

  it('HEAD answers as GET without the body', async () => {
    const [head, get] = await Promise.all([server.fetch('/things', { method: 'HEAD' }), server.fetch('/things')]);
    expect(head.status).toBe(200);
    expect(head.headers.get('content-length')).toBe(get.headers.get('content-length'));
    expect(await head.text()).toBe('');
  });
});

describe('bodies', () => {
  it('are taken with either form of the path', async () => {
    for (const path of ['/things/create', '/things/create/', '/things', '/things/']) {
      expect(await (await server.send('POST', path, { name: 'a' })).json()).toEqual({ name: 'a' });
    }
  });

  it.each(['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'nonsense/type'])(
    'without bytes are no input, also as %s',
    async (type) => {
      const response = await server.fetch('/things/create', { method: 'POST', headers: { 'content-type': type } });
      expect([response.status, await response.json()]).toEqual([200, {}]);
    },
  );

  it('of a DELETE are no input', async () => {
    expect(await (await server.send('DELETE', '/things/5?force=true')).json()).toEqual({ thing_id: 5, force: true });
  });

  it.each([
    ['{"count":"1"}', 'count'],
    ['{"flag":"false"}', 'flag'],
    ['{"flag":1}', 'flag'],
    ['{"other":1}', 'other'],
    ['{"toString":1}', 'toString'],
    ['{"constructor":{"prototype":{"polluted":1}}}', 'constructor'],
    ['{"__proto__":{"polluted":1}}', '__proto__'],
    ['{"nested":[{"\\u005f_proto__":1}]}', '__proto__'],
    ['[]', ''],
    ['null', ''],
    ['"text"', ''],
    ['5', ''],
  ])('%s is 400 and names the field', async (body, path) => {
    const refused = await problem(server.send('POST', '/things/create', body));
    expect(refused).toMatchObject({ status: 400, code: 'validation_failed' });
    expect(refused.issues?.[0]?.path).toBe(path);
  });

  it.each(['{', '{"a":1}x', '{"a":undefined}', '\ufeff{}', ' ', "{'a':1}"])('%j is malformed_json', async (body) => {
    const refused = await problem(server.send('POST', '/things/create', body));
    expect(refused).toMatchObject({ status: 400, code: 'malformed_json', detail: 'The body is not valid JSON' });
  });

  it('that are not UTF-8 are malformed_json', async () => {
    const body = Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xff, 0x22, 0x7d]);
    const headers = { 'content-type': 'application/json' };
    const refused = await problem(server.fetch('/things/create', { method: 'POST', body, headers }));
    expect(refused).toMatchObject({ status: 400, code: 'malformed_json' });
  });

  it('may nest 32 levels and no more', async () => {
    const nest = (depth: number) => `{"nested":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
    expect((await server.send('POST', '/things/create', nest(32))).status).toBe(200);
    for (const depth of [33, 100, 10_000]) {
      expect((await problem(server.send('POST', '/things/create', nest(depth)))).code).toBe('validation_failed');
    }
  });

  it('may hold any brackets in text', async () => {
    const name = `\\"${'[{'.repeat(100)}`;
    expect(await (await server.send('POST', '/things/create', { name })).json()).toEqual({ name });
  });

  it('over 100 KB are 413', async () => {
    for (const bytes of [102_401, 1_000_000]) {
      const body = JSON.stringify({ name: 'x'.repeat(bytes) });
      const refused = await problem(server.send('POST', '/things/create', body));
      expect(refused).toMatchObject({ status: 413, code: 'payload_too_large' });
    }
  });

  it('with ten thousand unknown keys get a short answer', async () => {
    const body = Object.fromEntries(Array.from({ length: 9_000 }, (_, index) => [`k${index}`, 1]));
    const response = await server.send('POST', '/things/create', body);
    expect(response.status).toBe(400);
    expect((await response.text()).length).toBeLessThan(2_000);
  });

  it('of another type are 415', async () => {
    for (const type of [
      'text/plain',
      'application/xml',
      'multipart/form-data; boundary=x',
      'application/x-www-form-urlencoded',
    ]) {
      const answer = server.fetch('/things/create', { method: 'POST', body: '{}', headers: { 'content-type': type } });
      expect(await problem(answer)).toMatchObject({ status: 415, code: 'unsupported_media_type' });
    }
  });

  it('that are compressed are 415', async () => {
    const answer = server.send('POST', '/things/create', '{}', { 'content-encoding': 'gzip' });
    expect(await problem(answer)).toMatchObject({ status: 415, code: 'unsupported_media_type' });
  });

  it('may not repeat a key of the path', async () => {
    const refused = await problem(server.send('PUT', '/things/5', { thing_id: 5, name: 'a' }));
    expect(refused.issues).toEqual([{ path: 'thing_id', message: 'is given by the path' }]);
  });

  it('may carry legacy keys, which are dropped', async () => {
    expect(await (await server.send('POST', '/things', { old: { any: 1 }, name: 'a' })).json()).toEqual({ name: 'a' });
  });

  it('keep null, which clears', async () => {
    expect(await (await server.send('PUT', '/things/5', { name: null })).json()).toEqual({ thing_id: 5, name: null });
  });
});

describe('the OAuth2 password form', () => {
  const send = (body: string) =>
    server.fetch('/login', { method: 'POST', body, headers: { 'content-type': 'application/x-www-form-urlencoded' } });

  it('logs in with username as e-mail and ignores its other fields', async () => {
    const response = await send('grant_type=password&username=a%40b.example&password=p%2B+q&scope=x&client_id=');
    expect(await response.json()).toEqual({ email: 'a@b.example', password: 'p+ q' });
  });

  it('refuses a field given twice', async () => {
    expect((await problem(send('username=a&username=b&password=c'))).issues?.[0]?.path).toBe('username');
  });

  it('stands beside JSON', async () => {
    expect((await server.send('POST', '/login', { email: 'a', password: 'b' })).status).toBe(200);
    expect((await problem(server.send('POST', '/login', { username: 'a', password: 'b' }))).status).toBe(400);
  });
});

describe('answers', () => {
  it('of null are JSON null', async () => {
    expect(await (await server.fetch('/nothing')).text()).toBe('null');
  });

  it('carry the headers that the procedure asked for', async () => {
    expect((await server.fetch('/things?with_total=true')).headers.get('x-total-count')).toBe('42');
    expect((await server.fetch('/things')).headers.has('x-total-count')).toBe(false);
  });

  it('to an unexpected error say nothing about it, and the log says everything', async () => {
    const response = await server.fetch('/fail');
    const text = await response.text();
    expect(response.status).toBe(500);
    expect(JSON.parse(text)).toEqual({
      type: 'about:blank',
      title: 'Internal Server Error',
      status: 500,
      detail: 'Internal Server Error',
      code: 'internal_error',
      request_id: response.headers.get('x-request-id'),
    });
    const logged = server.lines.filter(
      ({ request_id, level }) => level === 'error' && request_id === JSON.parse(text).request_id,
    );
    expect(logged).toHaveLength(1);
    expect(JSON.stringify(logged)).toContain('fixture-router');
    expect(JSON.stringify(logged)).not.toContain('hunter2');
  });

  it('that ask to wait say how long', async () => {
    const response = await server.fetch('/busy');
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '7']);
    expect(await response.text()).not.toContain('queue of 32');
  });

  it('to a missing or unusable token ask for one', async () => {
    const missing = await server.fetch('/whoami');
    expect([missing.status, missing.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    expect(await problem(Promise.resolve(missing))).toMatchObject({ detail: 'Not authenticated' });
    const basic = await server.fetch('/whoami', { headers: { authorization: 'Basic eDp5' } });
    expect([basic.status, basic.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
  });

  it('to a caller with a token are never stored', async () => {
    const signedIn = await server.fetch('/things', { headers: { authorization: 'Bearer x.y.z' } });
    expect(signedIn.headers.get('cache-control')).toBe('no-store');
    expect((await server.send('POST', '/login', {})).headers.get('cache-control')).toBe('no-store');
    expect((await server.fetch('/things')).headers.get('cache-control')).toBeNull();
  });

  it('to a preference for text are the configuration as a file', async () => {
    const json = await server.fetch('/vpn_peers/17/config', { headers: { accept: '*/*' } });
    expect(await json.json()).toEqual({ wg_quick: '[Interface]\nPrivateKey = x\n' });
    const file = await server.fetch('/vpn_peers/17/config/', {
      headers: { accept: 'text/plain, application/json;q=0.5' },
    });
    expect(file.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(file.headers.get('content-disposition')).toBe('attachment; filename="vpn17.conf"');
    expect(await file.text()).toBe('[Interface]\nPrivateKey = x\n');
    const preferJson = await server.fetch('/vpn_peers/17/config', {
      headers: { accept: 'application/json, text/plain;q=0.9' },
    });
    expect(preferJson.headers.get('content-type')).toContain('application/json');
  });

  it('with a QR code are the image itself', async () => {
    const svg = await server.fetch('/vpn_peers/17/qr');
    expect([svg.headers.get('content-type'), await svg.text()]).toEqual(['image/svg+xml', 'image of 17']);
    expect((await server.fetch('/vpn_peers/17/qr?format=png')).headers.get('content-type')).toBe('image/png');
  });
});

describe('the raw webhook route', () => {
  it.each(['application/json', 'text/plain', 'application/x-www-form-urlencoded', undefined])(
    'hands over the exact text of a body of type %s',
    async (type) => {
      const body = '{"a":  1,\n"__proto__":{}} \u00e9';
      const headers: Record<string, string> = {
        'Webhook-Id': 'msg_1',
        ...(type === undefined ? {} : { 'content-type': type }),
      };
      const response = await server.fetch('/payments/webhook/shop2', {
        method: 'POST',
        body: Buffer.from(body),
        headers,
      });
      expect(await response.json()).toMatchObject({
        provider: 'shop2',
        raw_body: body,
        headers: { 'webhook-id': 'msg_1' },
        remoteAddress: '127.0.0.1',
      });
    },
  );

  it('without a name is the standard one', async () => {
    const response = await server.send('POST', '/payments/webhook/', '{broken');
    expect(await response.json()).toMatchObject({ provider: 'standard', raw_body: '{broken' });
  });

  it('takes an empty body, for the signature check to refuse', async () => {
    expect(await (await server.fetch('/payments/webhook', { method: 'POST' })).json()).toMatchObject({ raw_body: '' });
  });

  it('refuses bytes that are no text as an invalid signature', async () => {
    const answer = server.fetch('/payments/webhook', { method: 'POST', body: Buffer.from([0xc3, 0x28]) });
    expect(await problem(answer)).toMatchObject({ status: 401, code: 'invalid_signature' });
  });

  it('caps a delivery at 64 KB', async () => {
    const send = (bytes: number) => server.fetch('/payments/webhook', { method: 'POST', body: 'x'.repeat(bytes) });
    expect((await send(65_536)).status).toBe(200);
    expect(await problem(send(65_537))).toMatchObject({ status: 413, code: 'payload_too_large' });
  });

  it('is POST only', async () => {
    expect((await server.fetch('/payments/webhook')).headers.get('allow')).toBe('POST, OPTIONS');
  });
});

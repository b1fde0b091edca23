import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Problem } from '../../src/api/problem.ts';
import { type FixtureServer, startFixture } from './fixture-server.ts';

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server[Symbol.asyncDispose]());

const query = (path: string, input?: unknown) =>
  server.fetch(`/trpc/${path}${input === undefined ? '' : `?input=${encodeURIComponent(JSON.stringify(input))}`}`);

async function refusal(answer: Promise<Response>) {
  const response = await answer;
  const text = await response.text();
  expect(text).not.toContain('stack');
  const parsed = JSON.parse(text);
  const { error } = Array.isArray(parsed) ? parsed[0] : parsed;
  expect(error.data.problem).toMatchObject({ type: 'about:blank', status: response.status });
  expect(error.data.problem.request_id).toBe(response.headers.get('x-request-id'));
  expect(error.data.httpStatus).toBe(response.status);
  return error.data.problem as { status: number; code: string; issues?: { path: string }[] };
}

describe('a call', () => {
  it('answers the procedure output', async () => {
    expect(await (await query('thing.list', { limit: 5 })).json()).toMatchObject({ result: { data: { limit: 5 } } });
    const created = await server.send('POST', '/trpc/thing.create', { name: 'a' });
    expect(await created.json()).toEqual({ result: { data: { name: 'a' } } });
    expect(await (await query('odd.hidden')).json()).toEqual({ result: { data: 'tRPC only' } });
  });

  it('carries the headers that the procedure asked for', async () => {
    expect((await query('thing.list', { with_total: true })).headers.get('x-total-count')).toBe('42');
    expect((await query('odd.busy')).headers.get('retry-after')).toBe('7');
    expect((await query('odd.whoami')).headers.get('www-authenticate')).toBe('Bearer');
  });

  it('without a body or an input names none of the keys', async () => {
    expect((await server.send('POST', '/trpc/thing.self')).status).toBe(200);
    expect((await server.send('POST', '/trpc/thing.self', {})).status).toBe(200);
    expect((await server.send('POST', '/trpc/thing.self', null)).status).toBe(400);
    expect((await query('thing.list')).status).toBe(200);
    expect((await query('thing.get')).status).toBe(400);
  });

  it.each([
    [{ flag: '1' }, 'flag'],
    [{ flag: 'false' }, 'flag'],
    [{ limit: '5' }, 'limit'],
    [{ other: 1 }, 'other'],
    [{ constructor: 1 }, 'constructor'],
  ])('%j is refused before and after any REST call', async (input, path) => {
    const refused = async () => {
      const found = await refusal(query('thing.list', input));
      expect(found).toMatchObject({ status: 400, code: 'validation_failed' });
      expect(found.issues?.[0]?.path).toBe(path);
    };
    await refused();
    expect((await server.fetch('/things?flag=false&limit=5')).status).toBe(200);
    await refused();
  });

  it('refuses text for a boolean in a body before and after any REST call', async () => {
    for (const transport of ['/trpc/thing.create', '/things/create', '/trpc/thing.create']) {
      for (const flag of ['1', 'false', 0, null])
        expect((await server.send('POST', transport, { flag })).status).toBe(400);
    }
  });
});

describe('what never reaches a procedure is a problem too', () => {
  it.each([
    ['an unknown path', () => query('thing.unknown'), 404, 'not_found'],
    ['a prototype name', () => query('constructor'), 404, 'not_found'],
    ['a prototype name below a router', () => query('thing.__proto__'), 404, 'not_found'],
    ['a deeper path', () => query('thing/list'), 404, 'not_found'],
    ['no path', () => server.fetch('/trpc'), 404, 'not_found'],
    ['a query by POST', () => server.send('POST', '/trpc/thing.list', {}), 405, 'method_not_allowed'],
    ['a mutation by GET', () => query('thing.create', {}), 405, 'method_not_allowed'],
    ['another method', () => server.send('PUT', '/trpc/thing.create', {}), 405, 'method_not_allowed'],
    ['broken JSON in a body', () => server.send('POST', '/trpc/thing.create', '{'), 400, 'malformed_json'],
    ['broken JSON in a query', () => server.fetch('/trpc/thing.list?input={'), 400, 'malformed_json'],
    [
      'a deep body',
      () => server.send('POST', '/trpc/thing.create', `{"nested":${'['.repeat(99)}${']'.repeat(99)}}`),
      400,
      'validation_failed',
    ],
    ['a deep query', () => server.fetch(`/trpc/thing.list?input=${'['.repeat(99)}`), 400, 'validation_failed'],
    [
      '__proto__',
      () => server.send('POST', '/trpc/thing.create', '{"nested":{"__proto__":1}}'),
      400,
      'validation_failed',
    ],
    ['1 MB', () => server.send('POST', '/trpc/thing.create', { name: 'x'.repeat(1e6) }), 413, 'payload_too_large'],
    [
      'a form',
      () => server.send('POST', '/trpc/thing.create', 'a=1', { 'content-type': 'multipart/form-data' }),
      415,
      'unsupported_media_type',
    ],
    [
      'bytes',
      () => server.send('POST', '/trpc/thing.create', 'a', { 'content-type': 'application/octet-stream' }),
      415,
      'unsupported_media_type',
    ],
    [
      'compression',
      () => server.send('POST', '/trpc/thing.create', '{}', { 'content-encoding': 'br' }),
      415,
      'unsupported_media_type',
    ],
    ['mixed types', () => server.fetch('/trpc/thing.list,thing.create?batch=1'), 400, 'validation_failed'],
    ['bad parameters', () => server.fetch('/trpc/thing.list?connectionParams={'), 400, 'malformed_json'],
    ['an exception', () => query('odd.fail'), 500, 'internal_error'],
  ] as const)('%s', async (_name, send, status, code) => {
    expect(await refusal(send())).toMatchObject({ status, code });
  });

  it('and an exception says nothing of itself', async () => {
    const text = await (await query('odd.fail')).text();
    expect(text).not.toMatch(/hunter2|fixture-router|postgres/);
  });
});

interface Call {
  readonly result?: { readonly data: unknown };
  readonly error?: { readonly data: { readonly problem: Problem } };
}

const callsOf = async (response: Response) => (await response.json()) as Call[];

describe('a batch', () => {
  const batch = (count: number) =>
    `/trpc/${Array.from({ length: count }, () => 'odd.request').join(',')}?batch=1&input={}`;

  it('may carry ten calls, which know how many they are', async () => {
    const answers = await callsOf(await server.fetch(batch(10)));
    expect(answers).toHaveLength(10);
    expect(answers[9]?.result?.data).toMatchObject({ transport: 'trpc', callCount: 10 });
  });

  it.each([
    ['eleven calls', batch(11)],
    ['four thousand empty calls', `/trpc/${','.repeat(4000)}?batch=1`],
    ['commas that are encoded twice', `/trpc/${Array.from({ length: 11 }, () => 'odd.request').join('%252C')}?batch=1`],
  ])('of %s is refused whole, in a short answer', async (_name, path) => {
    const response = await server.fetch(path);
    expect((await response.clone().text()).length).toBeLessThan(1024);
    expect(await refusal(Promise.resolve(response))).toMatchObject({ status: 400, code: 'batch_too_large' });
  });

  it('keeps the refusals of its calls apart', async () => {
    const response = await server.fetch('/trpc/odd.nothing,odd.fail,odd.unknown?batch=1&input={}');
    const answers = await callsOf(response);
    expect(response.status).toBe(207);
    expect(answers[0]?.result).toEqual({ data: null });
    expect(answers[1]?.error?.data.problem.code).toBe('internal_error');
    expect(answers[2]?.error?.data.problem.code).toBe('not_found');
  });

  it('as a stream leaks nothing either', async () => {
    const response = await server.fetch('/trpc/odd.nothing,odd.fail?batch=1&input={}', {
      headers: { 'trpc-accept': 'application/jsonl' },
    });
    const text = await response.text();
    expect(text).toContain('internal_error');
    expect(text).not.toMatch(/hunter2|stack|fixture-router/);
  });
});

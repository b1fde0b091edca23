import { afterEach, describe, expect, it, vi } from 'vitest';
import { createApiClient } from '../src/client.ts';
import { clientOf, failureOf, serviceClient } from './fixtures/client.ts';
import { type SeenRequest, startServer } from './fixtures/server.ts';

const payment = { tariff_id: 1, amount: '9.99' };

function keysOf(requests: readonly SeenRequest[]) {
  return requests.map(({ headers }) => headers['idempotency-key']);
}

afterEach(() => vi.unstubAllGlobals());

describe('requests', () => {
  it('sends the queries of one tick as one GET', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    const [list, one] = await Promise.all([
      api.tariff.list.query({ limit: 5 }),
      api.tariff.get.query({ tariff_id: 3 }),
    ]);
    expect(list).toHaveLength(5);
    expect(one).toMatchObject({ id: 3, name: 'Tariff 3' });
    expect(server.requests).toMatchObject([{ method: 'GET', calls: 2 }]);
  });

  it('puts at most ten calls into one request', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    const ids = Array.from({ length: 25 }, (_, index) => index + 1);
    const rows = await Promise.all(ids.map((tariff_id) => api.tariff.get.query({ tariff_id })));
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(server.requests.map(({ calls }) => calls)).toEqual([10, 10, 5]);
  });

  it('splits a batch whose address would grow too long', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    const names = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(700));
    await Promise.all(names.map((name) => api.tariff.flaky.query({ name, failures: 0 })));
    expect(server.requests.length).toBeGreaterThan(1);
    expect(Math.max(...server.requests.map(({ url }) => url.length))).toBeLessThanOrEqual(2_048);
  });

  it('sends every mutation alone, as a POST with its own key', async () => {
    await using server = await startServer();
    const api = serviceClient(server);
    await Promise.all([api.payment.create.mutate(payment), api.payment.create.mutate(payment)]);
    expect(server.requests).toMatchObject([
      { method: 'POST', calls: 1 },
      { method: 'POST', calls: 1 },
    ]);
    expect(new Set(keysOf(server.requests)).size).toBe(2);
    expect(keysOf(server.requests)).not.toContain(undefined);
  });

  it('sends no Idempotency-Key where the server would not honour it', async () => {
    await using server = await startServer();
    await serviceClient(server).peer.remove.mutate({ peer_id: 1 });
    expect(keysOf(server.requests)).toEqual([undefined]);
  });

  it('sends the headers of the caller and the API key', async () => {
    await using server = await startServer();
    await serviceClient(server, { headers: { 'x-shop': 'north' } }).auth.me.query();
    expect(server.requests[0]?.headers).toMatchObject({ 'x-shop': 'north', authorization: 'Bearer vpk_test' });
  });

  it('asks a token function before every attempt of a call', async () => {
    await using server = await startServer();
    server.state.accessTokens.add('second');
    const tokens = ['first', 'second'];
    const api = clientOf(server, { token: () => tokens.shift() });
    expect(await failureOf(api.auth.me.query())).toMatchObject({ code: 'invalid_token', status: 401 });
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer second' });
  });

  it('serves a base address with a path', async () => {
    await using server = await startServer();
    const api = createApiClient({ baseUrl: `${server.baseUrl}/vpn/`, retries: 0 });
    await failureOf((api as never as { a: { query(): Promise<unknown> } }).a.query());
    expect(server.requests[0]?.url).toMatch(/^\/vpn\/trpc\/a\?/);
  });

  it('refuses more than one kind of credentials', () => {
    expect(() => createApiClient({ baseUrl: 'http://localhost', apiKey: 'vpk_a', token: 'b' })).toThrow(TypeError);
  });

  it('is not taken for a promise', async () => {
    const api = createApiClient({ baseUrl: 'http://localhost' });
    expect(await api).toBe(api);
  });
});

describe('repeats of queries', () => {
  it.each([502, 503, 504, 429])('repeats a query after a bare %i of a proxy', async (status) => {
    await using server = await startServer();
    server.faults.push({ status }, { status });
    expect(await clientOf(server).tariff.get.query({ tariff_id: 1 })).toMatchObject({ id: 1 });
    expect(server.requests).toHaveLength(3);
  });

  it.each(['drop', 'lose-answer'] as const)('repeats a query after a broken connection (%s)', async (fault) => {
    await using server = await startServer();
    server.faults.push(fault);
    expect(await clientOf(server).tariff.get.query({ tariff_id: 1 })).toMatchObject({ id: 1 });
  });

  it('repeats a query that hangs', async () => {
    await using server = await startServer();
    server.faults.push('hang');
    expect(await clientOf(server, { timeoutMs: 200 }).tariff.get.query({ tariff_id: 1 })).toMatchObject({ id: 1 });
  });

  it('repeats only the refused call of a batch', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    const answers = await Promise.all([
      api.tariff.flaky.query({ name: 'steady', failures: 0 }),
      api.tariff.flaky.query({ name: 'flaky', failures: 2 }),
    ]);
    expect(answers).toEqual([{ attempts: 1 }, { attempts: 3 }]);
    expect(server.requests.map(({ calls }) => calls)).toEqual([2, 1, 1]);
  });

  it('gives up after the last repeat with the error of the server', async () => {
    await using server = await startServer();
    const error = await failureOf(clientOf(server).tariff.flaky.query({ name: 'down', failures: 9 }));
    expect(error).toMatchObject({ code: 'unavailable', status: 503, retryAfterSeconds: 0 });
    expect(server.requests).toHaveLength(3);
  });

  it('does not wait longer than allowed for a server that asks for an hour', async () => {
    await using server = await startServer();
    server.faults.push({ status: 503, headers: { 'retry-after': '3600' } });
    const error = await failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }));
    expect(error).toMatchObject({ code: 'unavailable', retryAfterSeconds: 3600 });
    expect(server.requests).toHaveLength(1);
  });

  it.each([500, 404])('does not repeat a %i', async (status) => {
    await using server = await startServer();
    server.faults.push({ status });
    const error = await failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }));
    expect(error).toMatchObject({ code: 'invalid_response', status });
    expect(server.requests).toHaveLength(1);
  });

  it('lets one call choose its own number of repeats', async () => {
    await using server = await startServer();
    server.faults.push({ status: 503 });
    const call = clientOf(server).tariff.get.query({ tariff_id: 1 }, { context: { retries: 0 } });
    expect(await failureOf(call)).toMatchObject({ code: 'unavailable' });
  });
});

describe('repeats of mutations', () => {
  it.each(['drop', 'lose-answer', 'hang'] as const)('creates one payment under one key (%s)', async (fault) => {
    await using server = await startServer();
    server.faults.push(fault, fault);
    const created = await serviceClient(server, { timeoutMs: 200 }).payment.create.mutate(payment);
    expect(created).toEqual({ id: 1, amount: '9.99' });
    expect(server.state.payments.size).toBe(1);
    expect(server.requests).toHaveLength(3);
    expect(new Set(keysOf(server.requests)).size).toBe(1);
  });

  it('makes a key where the browser has no randomUUID', async () => {
    await using server = await startServer();
    vi.stubGlobal('crypto', { getRandomValues: crypto.getRandomValues.bind(crypto) });
    await serviceClient(server).payment.create.mutate(payment);
    expect(keysOf(server.requests)[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  it('takes the key of the caller', async () => {
    await using server = await startServer();
    const options = { context: { idempotencyKey: 'order-17' } };
    await serviceClient(server).payment.create.mutate(payment, options);
    expect(keysOf(server.requests)).toEqual(['order-17']);
  });

  it('refuses a key that no header can carry, before anything is sent', async () => {
    await using server = await startServer();
    const options = { context: { idempotencyKey: 'заказ' } };
    const error = await failureOf(serviceClient(server).payment.create.mutate(payment, options));
    expect(error.code).toBe('client_error');
    expect(server.requests).toHaveLength(0);
  });

  it.each(['drop', 'lose-answer'] as const)('never repeats an unsafe mutation on its own (%s)', async (fault) => {
    await using server = await startServer();
    server.faults.push(fault);
    const error = await failureOf(serviceClient(server).peer.remove.mutate({ peer_id: 1 }));
    expect(error).toMatchObject({ code: 'network_error', status: undefined });
    expect(server.requests).toHaveLength(1);
  });

  it('never repeats an unsafe mutation because the caller gave a key that the server ignores', async () => {
    await using server = await startServer();
    server.faults.push({ status: 503 });
    const options = { context: { idempotencyKey: 'k' } };
    await failureOf(serviceClient(server).peer.remove.mutate({ peer_id: 1 }, options));
    expect(server.requests).toHaveLength(1);
  });

  it('repeats an unsafe mutation whose connection was refused', async () => {
    await using server = await startServer();
    let attempts = 0;
    const refusedOnce: typeof fetch = async (url, init) => {
      attempts += 1;
      if (attempts > 1) return fetch(url, init);
      const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
      throw new TypeError('fetch failed', { cause });
    };
    await serviceClient(server, { fetch: refusedOnce }).peer.remove.mutate({ peer_id: 1 });
    expect(server.state.removals).toBe(1);
  });

  it('reports a refused connection as a network error', async () => {
    const server = await startServer();
    await server[Symbol.asyncDispose]();
    expect(await failureOf(serviceClient(server).peer.remove.mutate({ peer_id: 1 }))).toMatchObject({
      code: 'network_error',
    });
  });
});

describe('deadlines', () => {
  it('ends a call that gets no answer', async () => {
    await using server = await startServer();
    server.faults.push('hang');
    const api = clientOf(server, { timeoutMs: 50, retries: 0 });
    expect(await failureOf(api.tariff.get.query({ tariff_id: 1 }))).toMatchObject({ code: 'timeout' });
  });

  it('ends one call of a hanging batch at its own deadline', async () => {
    await using server = await startServer();
    server.faults.push('hang');
    const api = clientOf(server, { timeoutMs: 300, retries: 0 });
    const slow = failureOf(api.tariff.get.query({ tariff_id: 1 }));
    const quick = api.tariff.get.query({ tariff_id: 2 }, { context: { timeoutMs: 30 } });
    expect(await failureOf(quick)).toMatchObject({ code: 'timeout', message: 'No answer within 30 ms' });
    expect(await slow).toMatchObject({ message: 'No answer within 300 ms' });
    expect(server.requests).toHaveLength(1);
  });

  it('ends when the caller aborts, without a repeat', async () => {
    await using server = await startServer();
    server.faults.push('hang');
    const abort = new AbortController();
    const call = failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }, { signal: abort.signal }));
    setTimeout(() => abort.abort(), 20);
    expect(await call).toMatchObject({ code: 'aborted' });
    expect(server.requests.length).toBeLessThanOrEqual(1);
  });

  it('ends a pause between attempts when the caller aborts', async () => {
    await using server = await startServer();
    server.faults.push({ status: 503, headers: { 'retry-after': '15' } });
    const abort = new AbortController();
    const call = failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }, { signal: abort.signal }));
    setTimeout(() => abort.abort(), 100);
    expect(await call).toMatchObject({ code: 'aborted' });
  });

  it('calls the deadline of the caller a timeout', async () => {
    await using server = await startServer();
    server.faults.push('hang');
    const signal = AbortSignal.timeout(30);
    expect(await failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }, { signal }))).toMatchObject({
      code: 'timeout',
    });
  });

  it('sends nothing for a signal that fired before', async () => {
    await using server = await startServer();
    const call = clientOf(server).tariff.get.query({ tariff_id: 1 }, { signal: AbortSignal.abort() });
    expect(await failureOf(call)).toMatchObject({ code: 'aborted' });
    expect(server.requests).toHaveLength(0);
  });
});

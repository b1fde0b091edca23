import { createTRPCClient, httpLink, TRPCClientError } from '@trpc/client';
import { describe, expect, it } from 'vitest';
import { isVpnApiError, toVpnApiError, VpnApiError } from '../src/errors.ts';
import { clientOf, failureOf } from './fixtures/client.ts';
import type { AppRouter } from './fixtures/router.ts';
import { startServer } from './fixtures/server.ts';

describe('errors of the server', () => {
  it('carry code, status, request id and the wrong fields', async () => {
    await using server = await startServer();
    const error = await failureOf(clientOf(server).tariff.list.query({ limit: 1_000 }));
    expect(error).toMatchObject({
      name: 'VpnApiError',
      code: 'validation_failed',
      status: 400,
      message: 'Invalid input',
      requestId: 'req-1',
      issues: [{ path: 'limit', message: expect.any(String) }],
    });
  });

  it('are tRPC client errors too, with the shape the server gave', async () => {
    await using server = await startServer();
    const error = await failureOf(clientOf(server).tariff.get.query({ tariff_id: 999 }));
    expect(error).toBeInstanceOf(VpnApiError);
    expect(error).toBeInstanceOf(TRPCClientError);
    expect(error.data).toMatchObject({ problem: { code: 'not_found' } });
  });

  it('are read from problem+json that never came near a procedure', async () => {
    await using server = await startServer();
    const problem = { type: 'about:blank', title: 'x', status: 413, detail: 'Too large', code: 'payload_too_large' };
    const headers = { 'content-type': 'application/problem+json', 'x-request-id': 'req-9' };
    server.faults.push({ status: 413, headers, body: JSON.stringify(problem) });
    const error = await failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }));
    expect(error).toMatchObject({ code: 'payload_too_large', status: 413, requestId: 'req-9', message: 'Too large' });
  });

  it('are read from the errors of another tRPC client', async () => {
    await using server = await startServer();
    const other = createTRPCClient<AppRouter>({ links: [httpLink({ url: `${server.baseUrl}/trpc` })] });
    const error = await other.tariff.get.query({ tariff_id: 999 }).catch(toVpnApiError);
    expect(error).toMatchObject({ code: 'not_found', status: 404, requestId: 'req-1' });
  });
});

describe('answers that are not the API', () => {
  it.each([
    [200, 'invalid_response'],
    [404, 'invalid_response'],
    [413, 'payload_too_large'],
    [429, 'rate_limited'],
    [502, 'unavailable'],
    [504, 'unavailable'],
  ])('an HTML page with %i is %s', async (status, code) => {
    await using server = await startServer();
    server.faults.push({ status });
    const error = await failureOf(clientOf(server, { retries: 0 }).tariff.get.query({ tariff_id: 1 }));
    expect(error).toMatchObject({ code, status });
  });

  it.each(['{"hello":"world"}', '[]', '{"result":', 'null'])('the JSON %s is invalid_response', async (text) => {
    await using server = await startServer();
    server.faults.push({ status: 200, headers: { 'content-type': 'application/json' }, body: text });
    const error = await failureOf(clientOf(server, { retries: 0 }).tariff.get.query({ tariff_id: 1 }));
    expect(error.code).toBe('invalid_response');
  });

  it('a Retry-After date is seconds from now', async () => {
    await using server = await startServer();
    const at = new Date(Date.now() + 90_000).toUTCString();
    server.faults.push({ status: 503, headers: { 'retry-after': at } });
    const error = await failureOf(clientOf(server).tariff.get.query({ tariff_id: 1 }));
    expect(error.retryAfterSeconds).toBeGreaterThan(85);
    expect(error.retryAfterSeconds).toBeLessThanOrEqual(90);
  });
});

describe('isVpnApiError', () => {
  const error = new VpnApiError({ code: 'rate_limited', message: 'Too many requests', status: 429 });

  it('asks for any code or for one of several', () => {
    expect(isVpnApiError(error)).toBe(true);
    expect(isVpnApiError(error, 'timeout', 'rate_limited')).toBe(true);
    expect(isVpnApiError(error, 'timeout')).toBe(false);
  });

  it.each([undefined, null, 'rate_limited', new Error('x'), { code: 'rate_limited' }])('says no to %j', (other) => {
    expect(isVpnApiError(other)).toBe(false);
  });
});

describe('toVpnApiError', () => {
  it.each([
    [new TypeError('fetch failed'), 'network_error'],
    [new SyntaxError('Unexpected token'), 'invalid_response'],
    [new DOMException('x', 'AbortError'), 'aborted'],
    [new DOMException('x', 'TimeoutError'), 'timeout'],
    [new RangeError('x'), 'client_error'],
    ['text', 'client_error'],
    [undefined, 'client_error'],
  ])('reads %o as %s', (error, code) => {
    expect(toVpnApiError(error)).toMatchObject({ code });
  });

  it('gives its own errors back, wrapped or not', () => {
    const own = new VpnApiError({ code: 'timeout', message: 'x' });
    expect(toVpnApiError(own)).toBe(own);
    expect(toVpnApiError(new Error('wrapped', { cause: own }))).toBe(own);
  });
});

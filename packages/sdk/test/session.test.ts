import { describe, expect, it, vi } from 'vitest';
import type { VpnApiError } from '../src/errors.ts';
import { memoryStorage, type SessionTokens, webStorage } from '../src/storage.ts';
import { clientOf, failureOf, serviceClient } from './fixtures/client.ts';
import { startServer } from './fixtures/server.ts';

const credentials = { email: 'ada@example.com', password: 'correct horse' };

const stale: SessionTokens = {
  accessToken: 'access-gone',
  accessExpiresAt: Date.now() + 900_000,
  refreshToken: 'refresh-good',
  refreshExpiresAt: Date.now() + 86_400_000,
};

/** A `localStorage` of its own. */
function fakeWebStorage() {
  const items = new Map<string, string>();
  return {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  };
}

describe('signing in', () => {
  it('keeps the tokens and sends them', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    const tokens = await api.$session.signIn(credentials);
    expect(await api.auth.me.query()).toEqual({ id: 7, token: `Bearer ${tokens.accessToken}` });
  });

  it('leaves a wrong password as invalid_credentials and refreshes nothing', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    await api.$session.signIn(credentials);
    const error = await failureOf(api.$session.signIn({ ...credentials, password: 'guess' }));
    expect(error).toMatchObject({ code: 'invalid_credentials', status: 401 });
    expect(server.state.refreshes).toBe(0);
    expect(await api.$session.tokens()).toBeDefined();
  });

  it('adopts tokens that another call brought', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    await api.$session.adopt(server.state.issueTokens());
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer access-1' });
  });

  it('sends nothing when nobody is signed in', async () => {
    await using server = await startServer();
    expect(await failureOf(clientOf(server).auth.me.query())).toMatchObject({ code: 'not_authenticated' });
    expect(server.requests[0]?.headers.authorization).toBeUndefined();
  });
});

describe('refreshing', () => {
  it('makes one refresh for twenty calls that are refused together', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const api = clientOf(server, { storage: memoryStorage(stale) });
    const calls = Array.from({ length: 20 }, () => api.auth.me.query());
    const answers = await Promise.all(calls);
    expect(new Set(answers.map(({ token }) => token))).toEqual(new Set(['Bearer access-1']));
    expect(server.state.refreshes).toBe(1);
  });

  it('makes one refresh for queries and mutations alike', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const api = clientOf(server, { storage: memoryStorage(stale) });
    const calls = Array.from({ length: 10 }, (_, peer_id) => api.peer.remove.mutate({ peer_id }));
    await Promise.all([...calls, api.auth.me.query()]);
    expect(server.state.refreshes).toBe(1);
    expect(server.state.removals).toBe(10);
  });

  it('repeats a refused creation under the same key', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const api = clientOf(server, { storage: memoryStorage(stale) });
    await api.payment.create.mutate({ tariff_id: 1, amount: '1.00' });
    const keys = server.requests
      .filter(({ url }) => url.includes('payment.create'))
      .map((r) => r.headers['idempotency-key']);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toBe(keys[1]);
  });

  it('refreshes before the token expires', async () => {
    await using server = await startServer();
    let now = Date.now();
    const api = clientOf(server, { now: () => now });
    await api.$session.signIn(credentials);
    now += 880_000;
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer access-2' });
    expect(server.requests.map(({ url }) => url.split('?')[0])).toEqual([
      '/trpc/auth.login',
      '/trpc/auth.refresh',
      '/trpc/auth.me',
    ]);
  });

  it('goes on with a token that is still good when the early refresh fails', async () => {
    await using server = await startServer();
    let now = Date.now();
    const api = clientOf(server, { now: () => now });
    await api.$session.signIn(credentials);
    now += 880_000;
    server.faults.push({ status: 503 }, { status: 503 }, { status: 503 });
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer access-1' });
  });

  it('repeats a refresh whose answer was lost', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const api = clientOf(server, { storage: memoryStorage(stale) });
    server.faults.push('none', 'drop');
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer access-1' });
  });

  it('gives up a call that is refused with the new token too', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    server.state.accessTokens.add = () => server.state.accessTokens;
    const api = clientOf(server, { storage: memoryStorage(stale) });
    expect(await failureOf(api.auth.me.query())).toMatchObject({ code: 'invalid_token' });
    expect(server.state.refreshes).toBe(1);
  });

  it('clears the session and reports it once when the refresh token is refused', async () => {
    await using server = await startServer();
    const onSessionExpired = vi.fn<(error: VpnApiError) => void>();
    const api = clientOf(server, { storage: memoryStorage(stale), onSessionExpired });
    const errors = await Promise.all(Array.from({ length: 5 }, () => failureOf(api.auth.me.query())));
    expect(errors.map(({ code }) => code)).toEqual(Array(5).fill('invalid_refresh_token'));
    expect(onSessionExpired).toHaveBeenCalledTimes(1);
    expect(onSessionExpired.mock.calls[0]?.[0]).toMatchObject({ code: 'invalid_refresh_token' });
    expect(await api.$session.tokens()).toBeUndefined();
  });

  it('keeps the session when the server cannot be reached for a refresh', async () => {
    await using server = await startServer();
    const onSessionExpired = vi.fn();
    const api = clientOf(server, { storage: memoryStorage(stale), onSessionExpired, retries: 0 });
    server.faults.push('none', 'drop');
    expect(await failureOf(api.auth.me.query())).toMatchObject({ code: 'network_error' });
    expect(await api.$session.tokens()).toEqual(stale);
    expect(onSessionExpired).not.toHaveBeenCalled();
  });

  it('never refreshes for an API key or a fixed token', async () => {
    await using server = await startServer();
    const service = serviceClient(server);
    server.state.accessTokens.clear();
    expect(await failureOf(service.auth.me.query())).toMatchObject({ code: 'invalid_token' });
    expect(await failureOf(clientOf(server, { token: 'old' }).auth.me.query())).toMatchObject({
      code: 'invalid_token',
    });
    expect(server.state.refreshes).toBe(0);
  });

  it('can be asked for', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    await api.$session.signIn(credentials);
    expect(await api.$session.refresh()).toMatchObject({ accessToken: 'access-2' });
    expect(await api.auth.me.query()).toMatchObject({ token: 'Bearer access-2' });
  });

  it('rejects when asked for without a session', async () => {
    await using server = await startServer();
    expect(await failureOf(clientOf(server).$session.refresh())).toMatchObject({ code: 'not_authenticated' });
  });
});

describe('signing out', () => {
  it('tells the server and forgets the tokens', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    await api.$session.signIn(credentials);
    await api.$session.signOut();
    expect(server.state.accessTokens.size).toBe(0);
    expect(await api.$session.tokens()).toBeUndefined();
  });

  it('forgets the tokens even when the server cannot be told', async () => {
    await using server = await startServer();
    const api = clientOf(server);
    await api.$session.signIn(credentials);
    server.faults.push('drop');
    expect(await failureOf(api.$session.signOut())).toMatchObject({ code: 'network_error' });
    expect(await api.$session.tokens()).toBeUndefined();
  });

  it('counts a session that the server no longer knows as signed out', async () => {
    await using server = await startServer();
    const api = clientOf(server, { storage: memoryStorage(stale) });
    await api.$session.signOut();
    expect(await api.$session.tokens()).toBeUndefined();
  });

  it('is not undone by a refresh that ends later', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const api = clientOf(server, { storage: memoryStorage(stale) });
    const call = api.auth.me.query().catch(() => undefined);
    await api.$session.signOut();
    await call;
    expect(await api.$session.tokens()).toBeUndefined();
  });
});

describe('storage', () => {
  it('lets two tabs share one session and one refresh', async () => {
    await using server = await startServer();
    server.state.refreshTokens.add(stale.refreshToken);
    const local = fakeWebStorage();
    await webStorage(local).write(stale);
    const tabs = [1, 2].map(() => clientOf(server, { storage: webStorage(local) }));
    await Promise.all(tabs.map((api) => api.auth.me.query()));
    expect(server.state.refreshes).toBe(1);
  });

  it('reads what is not a session as signed out', () => {
    const local = fakeWebStorage();
    const storage = webStorage(local, 'key');
    for (const text of ['{', 'null', '[]', '{"accessToken":1}']) {
      local.setItem('key', text);
      expect(storage.read()).toBeUndefined();
    }
  });

  it('reports a storage that throws as client_error', async () => {
    await using server = await startServer();
    const broken = { ...memoryStorage(), read: () => Promise.reject(new RangeError('quota')) };
    expect(await failureOf(clientOf(server, { storage: broken }).auth.me.query())).toMatchObject({
      code: 'client_error',
    });
  });
});

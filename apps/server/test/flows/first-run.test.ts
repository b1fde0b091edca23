import { parseClientConfig } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import {
  type App,
  engines,
  PASSWORD,
  PROMOTE_SECRET,
  type RestOptions,
  START,
  signStandard,
  startApp,
} from '../harness.ts';

/** What the README of the replaced service told newcomers to do, step by step. */
interface Transport {
  root(): Promise<unknown>;
  register(email: string): Promise<{ id: number }>;
  promote(userId: number): Promise<unknown>;
  login(email: string): Promise<{ access_token: string; token_type: string }>;
  createTariff(token: string, tariff: Record<string, unknown>): Promise<{ id: number }>;
  createPayment(token: string, payment: Record<string, unknown>): Promise<{ id: number; reference: string }>;
  webhook(raw: string): Promise<unknown>;
  createPeer(token: string): Promise<{ wg_public_key: string; wg_private_key: string; wg_ip: string }>;
  selfConfig(token: string): Promise<{ wg_quick: string }>;
}

const month = { name: 'Month', description: 'Thirty days', duration_days: 30, price: '9.99', currency: 'USD' };

/** Plays the story and checks every answer on the way. */
async function playFirstRun(transport: Transport): Promise<{ token: string; config: string }> {
  expect(await transport.root()).toEqual({ msg: 'VPN API is running', version: expect.any(String) });
  const alice = await transport.register('alice@example.com');
  const boss = await transport.register('boss@example.com');
  expect(alice).toMatchObject({ id: 1, email: 'alice@example.com', status: 'active', is_admin: false });
  expect(boss).toMatchObject({ id: 2, status: 'active', is_admin: false });
  expect(await transport.promote(2)).toEqual({ msg: 'user promoted', user_id: 2 });
  const { access_token: adminToken, token_type } = await transport.login('boss@example.com');
  expect(token_type).toBe('bearer');
  const tariff = await transport.createTariff(adminToken, month);
  expect(tariff).toMatchObject({ ...month, id: 1, created_at: START });

  const { access_token: token } = await transport.login('alice@example.com');
  const payment = await transport.createPayment(token, { tariff_id: tariff.id, provider: 'standard' });
  expect(payment).toMatchObject({ user_id: 1, amount: '9.99', currency: 'USD', status: 'pending' });
  const data = { reference: payment.reference, provider_payment_id: 'ch-1', amount: '9.99', currency: 'USD' };
  const event = { type: 'payment.completed', timestamp: START, data: { payment_id: payment.id, ...data } };
  expect(await transport.webhook(JSON.stringify(event))).toEqual({ received: true, result: 'settled' });

  const peer = await transport.createPeer(token);
  expect(peer).toMatchObject({ user_id: 1, active: true, wg_private_key: expect.any(String) });
  const { wg_quick: config } = await transport.selfConfig(token);
  const parsed = parseClientConfig(config);
  expect(parsed.privateKey).toBe(peer.wg_private_key);
  expect(parsed.addresses).toEqual([peer.wg_ip]);
  return { token, config };
}

/** The paths of the story, each written by `spell`. */
function restTransport(app: App, spell: (path: string) => string, webhookPath: string): Transport {
  const send = async <T>(method: string, path: string, options?: RestOptions): Promise<T> => {
    const [route = '', query] = path.split('?');
    const answer = await app.rest<T>(method, query === undefined ? spell(route) : `${spell(route)}?${query}`, options);
    expect(answer.status, `${method} ${route}: ${answer.text}`).toBe(200);
    return answer.body;
  };
  return {
    root: async () => (await app.rest('GET', '/')).body,
    register: (email) => send('POST', '/auth/register', { body: { email, password: PASSWORD } }),
    promote: (userId) => send('POST', `/auth/admin/promote?user_id=${userId}&secret=${PROMOTE_SECRET}`),
    login: (email) => send('POST', '/auth/login', { body: { email, password: PASSWORD } }),
    createTariff: (token, body) => send('POST', '/tariffs', { token, body }),
    createPayment: (token, body) => send('POST', '/payments/create', { token, body }),
    webhook: (body) => send('POST', webhookPath, { body, headers: signed(app, body) }),
    createPeer: (token) => send('POST', '/vpn_peers/self', { token, body: {} }),
    selfConfig: (token) => send('GET', '/vpn_peers/self/config', { token }),
  };
}

function trpcTransport(app: App): Transport {
  const query = async <T>(path: string, token?: string): Promise<T> => {
    const answer = await app.trpcQuery<T>(path, undefined, { token });
    expect(answer.status, `${path}: ${answer.text}`).toBe(200);
    return answer.body.result?.data as T;
  };
  const mutate = async <T>(path: string, input: unknown, token?: string): Promise<T> => {
    const answer = await app.trpcMutate<T>(path, input, { token });
    expect(answer.status, `${path}: ${answer.text}`).toBe(200);
    return answer.body.result?.data as T;
  };
  return {
    root: () => query('system.root'),
    register: (email) => mutate('auth.register', { email, password: PASSWORD }),
    promote: (userId) => mutate('auth.promote', { user_id: userId, secret: PROMOTE_SECRET }),
    login: (email) => mutate('auth.login', { email, password: PASSWORD }),
    createTariff: (token, tariff) => mutate('tariff.create', tariff, token),
    createPayment: (token, payment) => mutate('payment.create', payment, token),
    webhook: (raw) => mutate('payment.webhook', { provider: 'standard', headers: signed(app, raw), raw_body: raw }),
    createPeer: (token) => mutate('peer.createSelf', {}, token),
    selfConfig: (token) => query('peer.selfConfig', token),
  };
}

function signed(app: App, body: string): Record<string, string> {
  return signStandard(body, { seconds: Math.floor(Date.parse(app.clock.now()) / 1000) });
}

const spellings = [
  ['without', (path: string) => path],
  ['with', (path: string) => `${path}/`],
] as const;

describe.each(engines)('the first run on %s', (engine) => {
  describe.each(spellings)('over REST %s a trailing slash', (_name, spell) => {
    test.each(['/payments/webhook', '/payments/webhook/standard'])(
      'and %s ends with a working config',
      async (path) => {
        await using app = await startApp({ engine });
        const { token, config } = await playFirstRun(restTransport(app, spell, path));

        const file = await app.rest('GET', spell('/vpn_peers/self/config'), {
          token,
          headers: { accept: 'text/plain' },
        });
        expect(file.text).toBe(config);
        expect(file.headers.get('content-type')).toBe('text/plain; charset=utf-8');
        expect(file.headers.get('content-disposition')).toMatch(/^attachment; filename="[a-z0-9]{1,15}\.conf"$/);
      },
    );
  });

  test('over tRPC ends with a working config', async () => {
    await using app = await startApp({ engine });
    await playFirstRun(trpcTransport(app));
  });

  test('ends with a device that its host has', async () => {
    await using app = await startApp({ engine });
    const { token } = await playFirstRun(trpcTransport(app));
    await app.settled();
    const [peer] = (await app.rest<{ state: string }[]>('GET', '/vpn_peers', { token })).body;
    expect(peer).toMatchObject({ state: 'active', wg_private_key: null });
  });
});

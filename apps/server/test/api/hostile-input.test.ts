import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import {
  type App,
  engines,
  PASSWORD,
  PROMOTE_SECRET,
  type RestOptions,
  SHOP_SECRET,
  startApp,
  WEBHOOK_SECRET,
} from '../harness.ts';
import { CANARY, hostileValues, mustRefuse, oddInputs, toJson } from './hostile-values.ts';
import { inputFor } from './inputs.ts';
import {
  type Input,
  type Outcome,
  type Procedure,
  procedures,
  restOutcome,
  type Transport,
  transports,
  trpcOutcome,
} from './procedures.ts';
import { World } from './world.ts';

/** Both databases, side by side: whatever is sent goes to both, and both must answer alike. */
let pair: readonly Target[];

/** One server with an admin who calls: he gets past every check but those of the input. */
interface Target {
  readonly app: App;
  readonly world: World;
}

beforeAll(async () => {
  pair = await Promise.all(
    engines.map(async (engine) => {
      const app = await startApp({ engine, env: { CORS_ORIGINS: 'https://shop.example' } });
      // Takes the id 1, which odd numbers hit.
      await app.register('first@example.com');
      return { app, world: await World.open(app) };
    }),
  );
});
afterAll(() => Promise.all(pair.map(({ app }) => app[Symbol.asyncDispose]())));

type Send = (target: Target, index: number) => Promise<Outcome>;

/** Sends to both servers; answers what the first said. */
async function both(label: string, send: Send): Promise<Outcome> {
  const [first, second] = await Promise.all(pair.map(send));
  if (first === undefined || second === undefined) throw new Error('there are two servers');
  expect([second.status, second.code], `${label}: ${first.text} / ${second.text}`).toEqual([first.status, first.code]);
  expectHarmless(label, first);
  expectHarmless(label, second);
  return first;
}

/** Never an error of ours, and what is refused is refused in the one shape, without a word from inside. */
function expectHarmless(label: string, outcome: Outcome): void {
  expect(outcome.status, `${label}: ${outcome.text.slice(0, 500)}`).toBeLessThan(500);
  if (outcome.status < 400) return;
  expect(outcome.problem, label).toMatchObject({
    type: 'about:blank',
    title: expect.any(String),
    status: outcome.status,
    detail: expect.any(String),
    code: expect.stringMatching(/^[a-z_]+$/),
    request_id: expect.stringMatching(/./),
  });
  expect(outcome.text.length, label).toBeLessThan(8_192);
  expect(outcome.text, label).not.toMatch(
    /stack|node_modules|\.ts:\d|at [A-Za-z.]+ \(|SQLITE|sqlite3|postgres|kysely/i,
  );
  expect(outcome.text, label).not.toContain(CANARY);
  expect(outcome.headers.get('content-type'), label).toMatch(/^application\/(problem\+)?json/);
}

async function refused(label: string, send: Send): Promise<Outcome> {
  const outcome = await both(label, send);
  expect(outcome.status, `${label}: ${outcome.text.slice(0, 500)}`).toBeGreaterThanOrEqual(400);
  return outcome;
}

async function rest(app: App, method: string, path: string, options?: RestOptions): Promise<Outcome> {
  const answer = await app.rest<unknown>(method, path, options);
  if (answer.status >= 400) expect(answer.headers.get('content-type'), path).toMatch(/^application\/problem\+json/);
  return restOutcome(answer);
}

async function trpc(app: App, { name, type }: Procedure, text: string, options?: RestOptions): Promise<Outcome> {
  const isQuery = type === 'query';
  const path = isQuery ? `/trpc/${name}?input=${encodeURIComponent(text)}` : `/trpc/${name}`;
  return trpcOutcome(
    await app.rest(isQuery ? 'GET' : 'POST', path, { ...options, ...(isQuery ? {} : { body: text }) }),
  );
}

/** Where the keys of an input go over REST, as text: a hostile client is not bound to our encoders. */
function restPath({ route }: Procedure, input: Input): string {
  return route.path.replaceAll(/\{([a-z0-9_]+)\}/g, (_, key: string) => encodeURIComponent(textOf(input[key])));
}

function textOf(value: unknown): string {
  const text = typeof value === 'string' ? value : toJson(value ?? null);
  return text.isWellFormed() ? text : '%ED%A0%80';
}

function sendInput(target: Target, transport: Transport, procedure: Procedure, call: Call): Promise<Outcome> {
  const { app } = target;
  const { input, token } = call;
  if (transport === 'trpc') return trpc(app, procedure, toJson(input), { token });
  const { route } = procedure;
  const own = Object.entries(input).filter(([key]) => !route.pathKeys.includes(key));
  const path = restPath(procedure, input);
  if (route.method === 'POST' || route.method === 'PUT') {
    return rest(app, route.method, path, { token, body: toJson(Object.fromEntries(own)) });
  }
  const query = own.map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(textOf(value))}`);
  return rest(app, route.method, query.length === 0 ? path : `${path}?${query.join('&')}`, { token });
}

interface Call {
  readonly input: Input;
  readonly token: string;
}

/** A valid call of the procedure for each server. */
async function prepare(procedure: Procedure): Promise<readonly Call[]> {
  return Promise.all(
    pair.map(async ({ world }) => {
      const owner = await world.account();
      const admin = await world.account({ isAdmin: true });
      return { token: admin.token, input: await inputFor(procedure.name, { world, owner }) };
    }),
  );
}

const takesBody = ({ route }: Procedure) => route.method === 'POST' || route.method === 'PUT';
const isRaw = ({ meta }: Procedure) => meta.rest?.raw === true;

const withInput = procedures.filter(({ input }) => input !== undefined);
const withBody = procedures.filter(takesBody);
const withPath = procedures.filter(({ route }) => route.pathKeys.length > 0);
const withQuery = procedures.filter(({ route }) => route.method === 'GET');

/** A raw procedure takes its input as headers and bytes over REST, so only tRPC can send it wrong fields. */
const transportsOf = (procedure: Procedure): readonly Transport[] => (isRaw(procedure) ? ['trpc'] : transports);

const tried = new Set<unknown>();

/** A schema that many procedures share, such as `id` and `limit`, gets its whole corpus once and a sample after that. */
function valuesFor(schema: z.core.$ZodType): readonly unknown[] {
  const values = hostileValues(schema);
  if (tried.has(schema)) return values.filter((_, at) => at % 3 === 1);
  tried.add(schema);
  return values;
}

test.each(withInput)('$name refuses fields of the wrong kind', async (procedure) => {
  const calls = await prepare(procedure);
  for (const [key, schema] of Object.entries(procedure.input?.shape ?? {})) {
    for (const value of valuesFor(schema)) {
      const isForbidden = mustRefuse(key, schema, value);
      for (const transport of transportsOf(procedure)) {
        // In a path or query string everything is text, and text that reads as the right thing is the right thing.
        const isText = transport === 'rest' && (procedure.route.pathKeys.includes(key) || !takesBody(procedure));
        const send: Send = (target, at) =>
          sendInput(target, transport, procedure, changed(calls, at, { [key]: value }));
        const label = `${procedure.name} over ${transport} with ${key} = ${toJson(value).slice(0, 80)}`;
        await (isForbidden && !isText ? refused(label, send) : both(label, send));
      }
    }
  }
});

test.each(procedures)('$name survives odd inputs, alike on both databases', async (procedure) => {
  const calls = await prepare(procedure);
  const odd = calls.map(({ input }) => oddInputs(procedure.input, { valid: input, count: 8, seed: 7 }));
  for (const at of odd[0]?.keys() ?? []) {
    for (const transport of transportsOf(procedure)) {
      const label = `${procedure.name} over ${transport} with ${toJson(odd[0]?.[at]).slice(0, 300)}`;
      await both(label, (target, server) =>
        sendInput(target, transport, procedure, { input: odd[server]?.[at] ?? {}, token: calls[server]?.token ?? '' }),
      );
    }
  }
});

test.each(withInput)('$name refuses keys that it does not know', async (procedure) => {
  const calls = await prepare(procedure);
  for (const key of ['unknown_key', 'constructor', 'toString', 'is_admin', 'password_hash']) {
    const send =
      (transport: Transport): Send =>
      (target, at) =>
        sendInput(target, transport, procedure, changed(calls, at, { [key]: 1 }));
    await refused(`${procedure.name} over trpc with ${key}`, send('trpc'));
    if (takesBody(procedure) && !isRaw(procedure))
      await refused(`${procedure.name} over rest with ${key}`, send('rest'));
  }
  const proto = (at: number) => toJson({ ...calls[at]?.input, unknown: 1 }).replace('"unknown"', '"__proto__"');
  await refused(`${procedure.name} over trpc with __proto__`, ({ app }, at) =>
    trpc(app, procedure, proto(at), { token: calls[at]?.token }),
  );
});

test.each(withBody)('$name refuses bodies that are no input', async (procedure) => {
  const calls = await prepare(procedure);
  const post = (label: string, options: RestOptions): Promise<Outcome> =>
    refused(`${procedure.name} over rest with ${label}`, ({ app }, at) => {
      const path = restPath(procedure, calls[at]?.input ?? {});
      return rest(app, procedure.route.method, path, { token: calls[at]?.token, ...options });
    });
  for (const body of brokenBodies) await post(body.slice(0, 40), { body });
  expect((await post('a megabyte', { body: megabyte })).status).toBe(413);
  if (!isRaw(procedure)) {
    expect((await post('text', { body: '{}', headers: { 'content-type': 'text/plain' } })).status).toBe(415);
  }
  for (const body of brokenBodies.filter((text) => !text.startsWith('\ufeff'))) {
    await refused(`${procedure.name} over trpc with ${body.slice(0, 40)}`, ({ app }, at) =>
      trpc(app, procedure, body, { token: calls[at]?.token }),
    );
  }
});

test.each(withPath)('$name refuses paths that name no row', async (procedure) => {
  const calls = await prepare(procedure);
  const [key = ''] = procedure.route.pathKeys;
  const bodyOf = (input: Input) => toJson(Object.fromEntries(Object.entries(input).filter(([name]) => name !== key)));
  for (const value of badPathValues) {
    await refused(`${procedure.name} with ${key} = ${value}`, ({ app }, at) => {
      const path = procedure.route.path.replace(`{${key}}`, value);
      const { token, input } = changed(calls, at, {});
      return rest(app, procedure.route.method, path, {
        token,
        ...(takesBody(procedure) ? { body: bodyOf(input) } : {}),
      });
    });
  }
});

test.each(withQuery)('$name reads its query string strictly, and ignores what it does not know', async (procedure) => {
  const calls = await prepare(procedure);
  const get =
    (query: string): Send =>
    ({ app }, at) =>
      rest(app, 'GET', `${restPath(procedure, calls[at]?.input ?? {})}?${query}`, { token: calls[at]?.token });
  const plain = await both(procedure.name, get(''));
  const polluted = '__proto__=1&__proto__[polluted]=1&constructor=2&prototype=3&toString=4&hasOwnProperty=5&unknown=6';
  expect((await both(procedure.name, get(polluted))).status).toBe(plain.status);
  const keys = Object.keys(procedure.input?.shape ?? {}).filter((key) => !procedure.route.pathKeys.includes(key));
  for (const key of keys) {
    await refused(`${procedure.name}?${key} twice`, get(`${key}=1&${key}=1`));
    await both(`${procedure.name}?${key}=%00`, get(`${key}=%00`));
    await both(`${procedure.name}?${key}[]=1`, get(`${key}[]=1&${key}[a]=1&${key}=%ff`));
  }
});

function changed(calls: readonly Call[], at: number, change: Input): Call {
  const call = calls[at];
  if (call === undefined) throw new Error('no call was prepared for this server');
  return { ...call, input: { ...call.input, ...change } };
}

const megabyte = JSON.stringify({ a: 'x'.repeat(1_000_000) });

const brokenBodies = [
  '{',
  '{"a":1}}',
  "{'a':1}",
  '\ufeff{}',
  '[]',
  '"text"',
  '1',
  `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`,
  `${'['.repeat(100)}${']'.repeat(100)}`,
  '{"__proto__":{"polluted":true}}',
  '{"\\u005f_proto__":{"polluted":true}}',
];

const badPathValues = [
  '0',
  '-1',
  '1.5',
  '1e3',
  '2147483648',
  '99999999999999999999',
  '__proto__',
  '%00',
  '%E2%80%AE1',
  '1%2F2',
  '%ff',
  "1'%20or%201=1",
  'x'.repeat(300),
];

describe('numbers and booleans are never read from text', () => {
  const texts = ['{"limit":"1"}', '{"with_total":"false"}', '{"with_total":0}', '{"limit":null}'];
  const list = procedures.find(({ name }) => name === 'tariff.list');

  test('over tRPC, before and after REST calls that do', async () => {
    if (list === undefined) throw new Error('tariff.list is gone');
    const overTrpc = async () => {
      for (const text of texts) await refused(text, ({ app }) => trpc(app, list, text));
    };
    await overTrpc();
    for (const query of ['limit=5', 'limit=1&with_total=true', 'with_total=false']) {
      expect((await both(query, ({ app }) => rest(app, 'GET', `/tariffs?${query}`))).status).toBe(200);
    }
    await overTrpc();
  });

  test('in REST bodies, before and after query strings that do', async () => {
    const body = (at: number) => ({ user_id: String(pair[at]?.world.boss.id), tariff_id: 1 });
    const send: Send = ({ app, world }, at) =>
      rest(app, 'POST', '/auth/assign_tariff', { token: world.boss.token, body: body(at) });
    expect((await refused('before', send)).code).toBe('validation_failed');
    const account = await Promise.all(pair.map(({ world }) => world.account()));
    const query: Send = ({ app, world }, at) =>
      rest(app, 'POST', `/auth/assign_tariff?user_id=${account[at]?.id}&tariff_id=${world.tariff.id}`, {
        token: world.boss.token,
      });
    expect((await both('query', query)).status).toBe(200);
    expect((await refused('after', send)).code).toBe('validation_failed');
  });
});

describe('what is no call at all', () => {
  const routes = [
    '/nothing',
    '/auth',
    '/auth/nothing',
    '/users/1/nothing',
    '/tariffs/1/2/3',
    '//',

    '/.env',
    '/__proto__',
    '/constructor',
  ];

  test.each(routes)('%s is not found', async (path) => {
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH']) {
      const outcome = await refused(`${method} ${path}`, ({ app }) => rest(app, method, path, { token: CANARY }));
      expect(outcome.status).toBe(404);
    }
  });

  test.each([
    '',
    '__proto__',
    'toString',
    'auth',
    'auth.__proto__',
    'auth.constructor',
    'tariff.list.',
    '%00',
    'a'.repeat(300),
  ])('the procedure %j is not found', async (name) => {
    for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
      await refused(`${method} ${name}`, async ({ app }) => trpcOutcome(await app.rest(method, `/trpc/${name}`)));
    }
  });

  test.each(procedures)('$name takes no method but its own', async ({ name, type, route }) => {
    const { path } = route;
    const url = path.replaceAll(/\{[a-z0-9_]+\}/g, '1');
    const outcome = await refused(`PATCH ${path}`, ({ app }) => rest(app, 'PATCH', url, { body: '{' }));
    expect([outcome.status, outcome.headers.get('allow')]).toEqual([405, expect.stringContaining(route.method)]);
    const wrong = type === 'query' ? 'POST' : 'GET';
    const overTrpc = await refused(`${wrong} ${name}`, async ({ app }) =>
      trpcOutcome(await app.rest(wrong, `/trpc/${name}`, wrong === 'POST' ? { body: '{}' } : {})),
    );
    expect(overTrpc.status).toBe(405);
  });
});

describe('headers', () => {
  test('with names of prototypes change nothing', async () => {
    const headers = { __proto__x: '1', constructor: 'x', prototype: 'x', tostring: 'x', ['__proto__']: 'x' };
    const outcome = await both('headers', ({ app, world }) =>
      rest(app, 'GET', '/auth/me', { token: world.boss.token, headers }),
    );
    expect(outcome.status).toBe(200);
  });

  test.each(['', ' ', 'é', 'x'.repeat(256), 'x'.repeat(5_000)])(
    'an Idempotency-Key of %j is refused or ignored',
    async (key) => {
      const headers = { 'idempotency-key': key };
      const body = { name: `key ${key.length}`, price: '1' };
      await both('key', ({ app, world }) => rest(app, 'POST', '/tariffs', { token: world.boss.token, body, headers }));
    },
  );

  test.each([
    ['Bearer', ''],
    ['Bearer', `eyJhbGciOiJub25lIn0.${CANARY}.`],
    ['Bearer', `vpk_${CANARY}`],
    ['Bearer', `${CANARY}.${CANARY}.${CANARY}.${CANARY}`],
    ['Bearer', CANARY.repeat(1_000)],
    ['Basic', Buffer.from(`user:${CANARY}`).toString('base64')],
    ['Digest', CANARY],
  ])('an Authorization of %s %.20s is no credential', async (scheme, value) => {
    const headers = { authorization: `${scheme} ${value}` };
    const outcome = await refused(scheme, ({ app }) => rest(app, 'GET', '/auth/me', { headers }));
    expect(outcome.status).toBe(401);
    const me = procedures.find(({ name }) => name === 'auth.me') as Procedure;
    expect((await refused(scheme, ({ app }) => trpc(app, me, '{}', { headers }))).status).toBe(401);
  });
});

describe('text that is authentic and still hostile', () => {
  test.each([
    ['a NUL byte', '{"type":"payment.completed","data":{"reference":"a\u0000b"}}'],
    ['an escaped NUL', '{"type":"payment.completed","data":{"reference":"a\\u0000b","currency":"USD"}}'],
    ['a lone surrogate', '{"type":"payment.completed","data":{"reference":"a\\ud800b","currency":"USD"}}'],
    ['a type of NULs', '{"type":"\\u0000","data":{}}'],
    [
      'a huge amount',
      '{"type":"payment.completed","data":{"reference":"x","provider_payment_id":"c","amount":1e400,"currency":"USD"}}',
    ],
    [
      'an amount beyond 64 bits',
      '{"type":"payment.completed","data":{"reference":"x","provider_payment_id":"d","amount":"99999999999999999999","currency":"USD"}}',
    ],
    [
      'a date from nowhere',
      '{"type":"payment.completed","timestamp":"0000-00-00T99:99:99Z","data":{"reference":"x","provider_payment_id":"e","amount":"1","currency":"USD"}}',
    ],
    ['depth 10 000', `{"type":"ping","data":${'['.repeat(10_000)}${']'.repeat(10_000)}}`],
    ['no JSON', 'hello'],
    ['__proto__', '{"__proto__":{"polluted":true},"type":"payment.completed","data":{"__proto__":{"reference":"x"}}}'],
  ])('a signed webhook with %s is stored or refused', async (_name, body) => {
    const outcome = await both(body.slice(0, 100), async ({ app }) => restOutcome(await app.webhook(body)));
    expect([200, 400, 401]).toContain(outcome.status);
  });

  test('a return_url keeps to what a database can hold', async () => {
    for (const path of ['/a', '/\u0000', '/\ud800', '/\u202e', '/a b', '/é']) {
      const body = toJson({ return_url: `https://shop.example${path}`, provider: 'standard' }).slice(0, -1);
      await both(path, ({ app, world }) =>
        rest(app, 'POST', '/payments/create', {
          token: world.boss.token,
          body: `${body},"tariff_id":${world.tariff.id}}`,
        }),
      );
    }
  });

  test.each([
    '0000-01-01T00:00:00.000Z',
    '0001-01-01T00:00:00.000Z',
    '9999-12-31T23:59:59.999Z',
    '2026-02-30T00:00:00.000Z',
    '2026-06-30T23:59:60.000Z',
  ])('the instant %s is one on both databases or none on both', async (instant) => {
    for (const path of ['/payments?since', '/subscriptions?ends_before']) {
      await both(path, ({ app, world }) => rest(app, 'GET', `${path}=${instant}`, { token: world.boss.token }));
    }
    const body = { name: 'key', scopes: ['users:read'], expires_at: instant };
    await both('api key', ({ app, world }) => rest(app, 'POST', '/api_keys', { token: world.boss.token, body }));
  });

  test('periods may add up to ages without an error', async () => {
    const tariffs = await Promise.all(
      pair.map(({ app, world }) =>
        app.rest<{ id: number }>('POST', '/tariffs', {
          token: world.boss.token,
          body: { name: 'A hundred years', duration_days: 36_500, price: '1' },
        }),
      ),
    );
    const owners = await Promise.all(pair.map(({ world }) => world.account()));
    for (let century = 0; century < 85; century += 1) {
      await both('grant', ({ app, world }, at) =>
        rest(app, 'POST', '/subscriptions/grant', {
          token: world.boss.token,
          body: { user_id: owners[at]?.id, tariff_id: tariffs[at]?.body.id },
        }),
      );
    }
    await both('state', ({ app, world }, at) =>
      rest(app, 'GET', `/users/${owners[at]?.id}/state`, { token: world.boss.token }),
    );
  });
});

describe('after all of it', () => {
  test('secrets of requests are in no log line', async () => {
    const secret = `${CANARY}-secret-1`;
    const send = (method: string, path: string, options?: RestOptions) =>
      both(path, ({ app, world }) => rest(app, method, path, { token: world.boss.token, ...options }));
    await send('POST', '/auth/login', { body: { email: 'first@example.com', password: secret } });
    await send('POST', '/auth/login', { body: { email: CANARY, password: secret, extra: secret } });
    await send('POST', '/auth/register', { body: `{"email":"a@example.com","password":"${secret}` });
    await send('POST', `/auth/admin/promote?user_id=1&secret=${secret}`);
    await send('POST', '/auth/refresh', { body: { refresh_token: secret } });
    await send('POST', '/auth/password/change', { body: { old_password: secret, new_password: secret } });
    await send('POST', '/vpn_peers/self', { body: { wg_public_key: secret } });
    await send('GET', `/tariffs?token=${secret}`);
    await send('GET', `/nothing?token=${secret}`);
    await send('POST', '/payments/webhook', { body: secret, headers: { 'webhook-signature': `v1,${secret}` } });
    for (const { app, world } of pair) {
      const logs = app.logs.join('\n');
      const known = [
        CANARY,
        PASSWORD,
        PROMOTE_SECRET,
        WEBHOOK_SECRET,
        SHOP_SECRET,
        world.boss.token,
        world.boss.refreshToken,
      ];
      expect(known.filter((text) => logs.includes(text))).toEqual([]);
    }
  });

  test('no prototype is polluted and no call failed inside', async () => {
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect(([] as { polluted?: unknown }).polluted).toBeUndefined();
    for (const { app } of pair) {
      expect(app.logs.filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([]);
      expect((await app.rest('GET', '/ready')).status).toBe(200);
    }
  });
});

import { createHmac, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Engine, type ServerRow, updateUser } from '@vpn-api/db';
import { openTestStore } from '@vpn-api/db/testing';
import type { WgDriver } from '@vpn-api/wg';
import { compose, type Server } from '../src/compose.ts';
import { loadConfig } from '../src/config/config.ts';
import { epochMs } from '../src/domain/instant.ts';
import { createLogger } from '../src/obs/log.ts';
import type { Clock } from '../src/services.ts';
import { ManualClock } from './manual-clock.ts';

export { engines } from '@vpn-api/db/testing';

export const START = '2026-11-22T12:00:00.000Z';
export const WEBHOOK_SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
export const SHOP_SECRET = `whsec_${Buffer.alloc(32, 9).toString('base64')}`;
export const PROMOTE_SECRET = 'promote-secret-of-the-tests-0123456789';

const environment = {
  NODE_ENV: 'test',
  HOST: '127.0.0.1',
  PORT: '0',
  SECRET_KEY: 'test-secret-key-of-more-than-thirty-two-bytes',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 3).toString('base64'),
  PROMOTE_SECRET,
  PAYMENT_WEBHOOK_SECRET: WEBHOOK_SECRET,
  PAYMENT_WEBHOOK_SECRETS: `shop2=${SHOP_SECRET}`,
  BCRYPT_COST: '10',
  RATE_LIMITS: 'auth=0,default=0',
  LOG_LEVEL: 'info',
};

export interface AppOptions {
  readonly engine: Engine;
  /** Variables of CONFIG.md that differ from the test defaults. */
  readonly env?: Readonly<Record<string, string>>;
  /** `system`, or a clock of the test's own, for real interfaces; otherwise time stands at `START` until the test moves it. */
  readonly clock?: 'manual' | 'system' | Clock;
  readonly openDriver?: (server: ServerRow) => WgDriver;
}

export interface Answer<T = Record<string, unknown>> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
  readonly text: string;
}

export interface RestOptions {
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Person {
  readonly id: number;
  readonly email: string;
  readonly token: string;
  readonly refreshToken: string;
}

/** A whole server on a database of its own, listening on loopback. */
export interface App extends AsyncDisposable {
  readonly url: string;
  readonly server: Server;
  readonly services: Server['services'];
  readonly store: Server['services']['store'];
  readonly clock: ManualClock;
  /** Every log line so far. */
  readonly logs: readonly string[];
  rest<T = Record<string, unknown>>(method: string, path: string, options?: RestOptions): Promise<Answer<T>>;
  trpcQuery<T = unknown>(path: string, input?: unknown, options?: RestOptions): Promise<Answer<TrpcBody<T>>>;
  trpcMutate<T = unknown>(path: string, input?: unknown, options?: RestOptions): Promise<Answer<TrpcBody<T>>>;
  register(email?: string): Promise<Person>;
  admin(): Promise<Person>;
  /** An API key with the scopes, made by an admin. */
  apiKey(scopes: readonly string[]): Promise<string>;
  /** Sends a signed event of the `standard` format. */
  webhook(event: unknown, options?: WebhookOptions): Promise<Answer>;
  /** Waits until the background jobs have done what they were woken for. */
  settled(): Promise<void>;
}

export interface WebhookOptions {
  readonly provider?: string;
  readonly secret?: string;
  readonly id?: string;
}

export interface TrpcBody<T> {
  readonly result?: { readonly data: T };
  readonly error?: { readonly message: string; readonly data: { readonly problem: Record<string, unknown> } };
}

export const PASSWORD = 'Password123!';

export async function startApp(options: AppOptions): Promise<App> {
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'vpn-app-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const database = cleanup.use(await openTestStore(options.engine, { file: true }));
  const { config } = loadConfig({ ...environment, DATA_DIR: folder, DATABASE_URL: database.url, ...options.env });
  const logs: string[] = [];
  const clock = new ManualClock(START);
  const server = cleanup.use(
    await compose(config, {
      ...(options.clock === 'system' ? {} : { clock: typeof options.clock === 'object' ? options.clock : clock }),
      ...(options.openDriver === undefined ? {} : { openDriver: options.openDriver }),
      processMetrics: false,
      log: createLogger({ level: config.logLevel, write: (line) => void logs.push(line) }),
    }),
  );
  const url = await server.start();
  return makeApp({ server, url, clock, logs, stack: cleanup.move() });
}

interface Parts {
  readonly server: Server;
  readonly url: string;
  readonly clock: ManualClock;
  readonly logs: readonly string[];
  readonly stack: AsyncDisposableStack;
}

function makeApp({ server, url, clock, logs, stack }: Parts): App {
  const rest: App['rest'] = (method, path, options) => call(`${url}${path}`, method, options);
  const appClock: Clock = server.services.clock;
  let admin: Promise<Person> | undefined;
  let people = 0;
  const app: App = {
    url,
    server,
    services: server.services,
    store: server.services.store,
    clock,
    logs,
    rest,
    trpcQuery: (path, input, options) =>
      rest(
        'GET',
        `/trpc/${path}${input === undefined ? '' : `?input=${encodeURIComponent(JSON.stringify(input))}`}`,
        options,
      ),
    trpcMutate: (path, input, options) => rest('POST', `/trpc/${path}`, { body: input ?? {}, ...options }),
    register: async (email = `user${++people}@example.com`) => {
      const user = await rest<{ id: number }>('POST', '/auth/register', { body: { email, password: PASSWORD } });
      if (user.status !== 200) throw new Error(`register: ${user.status} ${user.text}`);
      const tokens = await rest<{ access_token: string; refresh_token: string }>('POST', '/auth/login', {
        body: { email, password: PASSWORD },
      });
      return { id: user.body.id, email, token: tokens.body.access_token, refreshToken: tokens.body.refresh_token };
    },
    admin: () => {
      admin ??= app.register('admin@example.com').then(async (person) => {
        await updateUser(server.services.store, person.id, { role: 'admin' });
        return person;
      });
      return admin;
    },
    apiKey: async (scopes) => {
      const { token } = await app.admin();
      const made = await rest<{ key: string }>('POST', '/api_keys', { token, body: { name: randomUUID(), scopes } });
      if (made.status !== 200) throw new Error(`api key: ${made.status} ${made.text}`);
      return made.body.key;
    },
    webhook: (event, options) => {
      const { provider, ...signing } = { provider: 'standard', ...options };
      const body = typeof event === 'string' ? event : JSON.stringify(event);
      const seconds = Math.floor(epochMs(appClock.now()) / 1000);
      return rest('POST', `/payments/webhook/${provider}`, {
        body,
        headers: signStandard(body, { seconds, ...signing }),
      });
    },
    settled: async () => {
      await Promise.all([server.reconciler.idle(), server.parkedEvents.idle(), server.paymentPolls.idle()]);
      // The others write what it publishes.
      await server.outbox.idle();
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
  return app;
}

interface Signing {
  readonly seconds: number;
  readonly secret?: string;
  readonly id?: string;
}

/** Headers of a Standard Webhook, made here independently of the server's and the SDK's code. */
export function signStandard(body: string, { seconds, secret = WEBHOOK_SECRET, id = `msg_${randomUUID()}` }: Signing) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signature = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': `v1,${signature}` };
}

export async function call<T>(
  url: string,
  method: string,
  { token, body, headers }: RestOptions = {},
): Promise<Answer<T>> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: (isJson ? JSON.parse(text) : undefined) as T,
  };
}

import { type Engine, findUserById, insertTariff, type TariffWithPrices, type UserRow, updateUser } from '@vpn-api/db';
import { openTestStore } from '@vpn-api/db/testing';
import { makeContext, type RequestInfo } from '../../src/api/context.ts';
import { type Problem, problemOf, toDomainError } from '../../src/api/problem.ts';
import { appRouter } from '../../src/api/router.ts';
import { loadConfig } from '../../src/config/config.ts';
import { AccessTokens } from '../../src/crypto/access-tokens.ts';
import { Passwords } from '../../src/crypto/passwords.ts';
import { systemRandom } from '../../src/crypto/random.ts';
import { SecretBox } from '../../src/crypto/secret-box.ts';
import { RateLimiter } from '../../src/http/rate-limit.ts';
import { createLogger } from '../../src/obs/log.ts';
import { Metrics } from '../../src/obs/metrics.ts';
import { RejectionLog } from '../../src/obs/rejection-log.ts';
import { makeProviders } from '../../src/pay/providers.ts';
import type { Services } from '../../src/services.ts';
import { ManualClock } from '../manual-clock.ts';
import { noHosts } from '../no-hosts.ts';

export const START = '2026-11-22T12:00:00.000Z';
export const PROMOTE_SECRET = 'promote-secret-of-the-tests-0123456789';
export const PASSWORD = 'Password123!';

const SECRET_KEY = 'test-secret-key-of-more-than-thirty-two-bytes';

const environment = {
  NODE_ENV: 'test',
  SECRET_KEY,
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 3).toString('base64'),
  PROMOTE_SECRET,
  RATE_LIMITS: '0',
};

export interface WorldOptions {
  /** Variables of the configuration that differ from the defaults above. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export type Caller = ReturnType<typeof appRouter.createCaller>;

export interface Tokens {
  readonly access_token: string;
  readonly refresh_token: string;
}

export interface Person extends Tokens {
  readonly id: number;
  readonly email: string;
  /** Calls with the access token of the login. */
  readonly api: Caller;
}

/** The procedures on a database of their own, called without a transport; the reconciler only counts its wakes. */
export class World implements AsyncDisposable {
  readonly clock = new ManualClock(START);
  readonly logs: string[] = [];
  readonly services: Services;
  wakes = 0;
  #people = 0;

  static async open(engine: Engine, options: WorldOptions = {}): Promise<World> {
    return new World(await openTestStore(engine), options);
  }

  private constructor(store: Services['store'], { env }: WorldOptions) {
    const { config } = loadConfig({ ...environment, ...env });
    const { clock } = this;
    const log = createLogger({ level: 'info', write: (line) => void this.logs.push(line) });
    this.services = {
      config,
      store,
      clock,
      random: systemRandom,
      // The least that bcrypt takes: what is tested here is who gets in, not how long a guess takes.
      passwords: new Passwords({ secretKey: SECRET_KEY, cost: 4 }),
      accessTokens: new AccessTokens({
        secretKey: SECRET_KEY,
        algorithm: 'HS256',
        lifetimeSeconds: config.auth.accessTokenSeconds,
        clock,
      }),
      secretBox: new SecretBox(config.secrets.encryptionKeys),
      rateLimiter: new RateLimiter(config.rateLimits, () => Date.parse(clock.now())),
      reconciler: {
        wake: () => {
          this.wakes += 1;
        },
      },
      hosts: noHosts,
      parkedEvents: { wake: () => {} },
      outbox: { wake: () => {} },
      paymentPolls: { wake: () => {} },
      providers: makeProviders(config),
      log,
      metrics: new Metrics({ processMetrics: false }),
      rejections: new RejectionLog({ log, clock: this.clock }),
      healthChecks: new Map(),
      version: '0.0.0',
      installId: 'test',
    };
  }

  get store(): Services['store'] {
    return this.services.store;
  }

  /** Calls as the holder of a token, or as nobody; each call is a request of its own. */
  as(token?: string, request: Partial<RequestInfo> = {}): Caller {
    return appRouter.createCaller(() => this.context(token, request));
  }

  context(token?: string, request: Partial<RequestInfo> = {}) {
    return makeContext(this.services, {
      id: 'req-1',
      ip: '203.0.113.7',
      userAgent: 'test',
      transport: 'trpc',
      authorization: token === undefined ? undefined : `Bearer ${token}`,
      idempotencyKey: undefined,
      callCount: 1,
      ...request,
    });
  }

  /** Registers and signs in. */
  async person(email = `person${++this.#people}@example.com`): Promise<Person> {
    const { id } = await this.as().auth.register({ email, password: PASSWORD });
    const tokens = await this.as().auth.login({ email, password: PASSWORD });
    return { ...tokens, id, email, api: this.as(tokens.access_token) };
  }

  async admin(email?: string): Promise<Person> {
    const person = await this.person(email);
    await updateUser(this.store, person.id, { role: 'admin' });
    return person;
  }

  async bot(admin: Person, scopes: Parameters<Caller['apiKey']['create']>[0]['scopes']): Promise<Caller> {
    return this.as((await admin.api.apiKey.create({ name: 'bot', scopes })).key);
  }

  async row(userId: number): Promise<UserRow> {
    return (await findUserById(this.store, userId)) as UserRow;
  }

  tariff(name = 'Month'): Promise<TariffWithPrices> {
    const prices = [{ currency: 'USD', amount_minor: 999, providers: null }];
    return this.store.transaction((tx) =>
      insertTariff(tx, { name, duration_days: 30, device_limit: 3, created_at: START }, prices),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
  }
}

/** What a client would read of a refused call. */
export async function problemFrom(call: Promise<unknown>): Promise<Problem> {
  return call.then(
    (answer) => {
      throw new Error(`the call was not refused: ${JSON.stringify(answer)}`);
    },
    (error: unknown) => problemOf(toDomainError(error), 'req-1'),
  );
}

export async function codeFrom(call: Promise<unknown>): Promise<string> {
  return (await problemFrom(call)).code;
}

/** Runs the same call many times at once; answers the codes of the refused ones and the answers of the others. */
export async function race<T>(times: number, call: (index: number) => Promise<T>) {
  const outcomes = await Promise.allSettled(Array.from({ length: times }, (_, index) => call(index)));
  const answers = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
  return { answers, codes: refused.map((reason) => toDomainError(reason).code) };
}

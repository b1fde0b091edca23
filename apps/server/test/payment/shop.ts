import { randomUUID } from 'node:crypto';
import {
  type Engine,
  findPayment,
  insertUser,
  listPeriodsForUser,
  type PaymentEventRow,
  type PaymentRow,
  type Store,
  type SubscriptionPeriodRow,
  type UserRow,
} from '@vpn-api/db';
import { openTestStore, type TestStore } from '@vpn-api/db/testing';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll } from 'vitest';
import type { Actor, ServiceActor } from '../../src/api/actor.ts';
import { makeContext, type RequestInfo } from '../../src/api/context.ts';
import { paymentRouter } from '../../src/api/payment/router.ts';
import { subscriptionRouter } from '../../src/api/subscription/router.ts';
import { tariffRouter } from '../../src/api/tariff/router.ts';
import { router } from '../../src/api/trpc.ts';
import { loadConfig } from '../../src/config/config.ts';
import { AccessTokens } from '../../src/crypto/access-tokens.ts';
import { Passwords } from '../../src/crypto/passwords.ts';
import { systemRandom } from '../../src/crypto/random.ts';
import { SecretBox } from '../../src/crypto/secret-box.ts';
import { epochMs } from '../../src/domain/instant.ts';
import { RateLimiter } from '../../src/http/rate-limit.ts';
import { createLogger } from '../../src/obs/log.ts';
import { Metrics } from '../../src/obs/metrics.ts';
import { RejectionLog } from '../../src/obs/rejection-log.ts';
import { settleParked } from '../../src/ops/settle-parked.ts';
import { makeProviders } from '../../src/pay/providers.ts';
import type { Services, Waker } from '../../src/services.ts';
import { ManualClock } from '../manual-clock.ts';
import { noHosts } from '../no-hosts.ts';

export const START = '2026-11-22T12:00:00.000Z';
export const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
export const OTHER_SECRET = `whsec_${Buffer.alloc(32, 9).toString('base64')}`;
export const DAY = 86_400;

const environment = {
  NODE_ENV: 'test',
  SECRET_KEY: 'test-secret-key-of-more-than-thirty-two-bytes',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 3).toString('base64'),
  PAYMENT_WEBHOOK_SECRET: SECRET,
  PAYMENT_WEBHOOK_SECRETS: `shop2=${OTHER_SECRET}`,
  CORS_ORIGINS: 'https://shop.example',
  PUBLIC_URL: 'https://api.example',
  RATE_LIMITS: 'auth=0,default=0',
  LOG_LEVEL: 'error',
};

const procedures = router({ tariff: tariffRouter, subscription: subscriptionRouter, payment: paymentRouter });

export interface CallOptions {
  readonly idempotencyKey?: string;
  readonly callCount?: number;
  /** Replaces parts of the server, for calls that must fail in the middle. */
  readonly services?: Partial<Services>;
  readonly responseHeaders?: Map<string, string>;
}

interface EventBody {
  readonly type?: string;
  readonly data?: unknown;
}

export interface Sending {
  readonly id?: string;
  readonly provider?: string;
  readonly secret?: string;
  readonly services?: Partial<Services>;
}

/** The selling half of a server on a database of its own: procedures, clock and store, without HTTP and hosts. */
export class Shop implements AsyncDisposable {
  readonly store: TestStore;
  readonly clock = new ManualClock(START);
  readonly services: Services;
  /** Times each background job was woken. */
  readonly woken = { reconciler: 0, parkedEvents: 0, outbox: 0, paymentPolls: 0 };

  constructor(store: TestStore, env: Readonly<Record<string, string>> = {}) {
    const { config } = loadConfig({ ...environment, ...env });
    const { secretKey, encryptionKeys } = config.secrets;
    this.store = store;
    const log = createLogger({ level: 'error', write: () => {} });
    this.services = {
      config,
      store,
      clock: this.clock,
      random: systemRandom,
      passwords: new Passwords({ secretKey, cost: 10 }),
      accessTokens: new AccessTokens({ secretKey, algorithm: 'HS256', lifetimeSeconds: 900, clock: this.clock }),
      secretBox: new SecretBox(encryptionKeys),
      rateLimiter: new RateLimiter(config.rateLimits),
      reconciler: this.#counter('reconciler'),
      hosts: noHosts,
      parkedEvents: this.#counter('parkedEvents'),
      outbox: this.#counter('outbox'),
      paymentPolls: this.#counter('paymentPolls'),
      providers: makeProviders(config),
      log,
      metrics: new Metrics({ processMetrics: false }),
      rejections: new RejectionLog({ log, clock: this.clock }),
      healthChecks: new Map(),
      version: '0.0.0',
      installId: 'test',
    };
  }

  static async open(engine: Engine, env?: Readonly<Record<string, string>>): Promise<Shop> {
    return new Shop(await openTestStore(engine), env);
  }

  #counter(job: keyof Shop['woken']): Waker {
    return {
      wake: () => {
        this.woken[job] += 1;
      },
    };
  }

  /** The procedures as this actor calls them. */
  as(actor: Actor, { services, responseHeaders, ...request }: CallOptions = {}) {
    const info: RequestInfo = {
      id: 'request-1',
      ip: '192.0.2.1',
      userAgent: undefined,
      transport: 'trpc',
      authorization: undefined,
      idempotencyKey: undefined,
      callCount: 1,
      ...request,
    };
    const context = makeContext({ ...this.services, ...services }, info);
    const headers = responseHeaders ?? context.responseHeaders;
    return procedures.createCaller({ ...context, responseHeaders: headers, actor: async () => actor });
  }

  get admin() {
    return this.as(this.adminActor);
  }

  get adminActor(): Actor {
    if (this.#admin === undefined) throw new Error('the shop has no admin yet');
    return { kind: 'admin', user: this.#admin, sessionId: 1 };
  }

  #admin: UserRow | undefined;

  async hireAdmin(email = `${randomUUID()}@example.com`): Promise<void> {
    this.#admin = await this.person({ role: 'admin', email });
  }

  person(columns: Partial<UserRow> = {}): Promise<UserRow> {
    return insertUser(this.store, { email: `${randomUUID()}@example.com`, created_at: this.clock.now(), ...columns });
  }

  async tariff(input: Record<string, unknown> = {}) {
    return this.admin.tariff.create({ name: randomUUID(), price: '9.99', ...input });
  }

  /** A pending payment of a new customer through `standard`. */
  async order(input: { user?: UserRow; tariff?: Record<string, unknown>; payment?: Record<string, unknown> } = {}) {
    const user = input.user ?? (await this.person());
    const tariff = await this.tariff(input.tariff);
    const payment = await this.as(service).payment.create({
      user_id: user.id,
      tariff_id: tariff.id,
      provider: 'standard',
      ...input.payment,
    });
    return { user, tariff, payment };
  }

  /** Signs and delivers one event, and answers what became of it. */
  async deliver(event: EventBody | string, sending: Sending = {}): Promise<PaymentEventRow['outcome']> {
    const provider = sending.provider ?? 'standard';
    const raw_body = typeof event === 'string' ? event : JSON.stringify(event);
    const headers = this.sign(raw_body, sending);
    const options = sending.services === undefined ? {} : { services: sending.services };
    const call = this.as({ kind: 'public' }, options).payment.webhook({ provider, headers, raw_body });
    return (await call).result;
  }

  /** The services of another process on the same database: nothing that waits or is remembered in this one counts there. */
  anotherProcess(): Partial<Services> {
    const store = new Proxy(this.store, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    return { store };
  }

  sign(body: string, { id = `msg_${randomUUID()}`, secret = SECRET }: Sending = {}): Record<string, string> {
    const sentAt = new Date(epochMs(this.clock.now()));
    return {
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
      'webhook-signature': new Webhook(secret).sign(id, sentAt, body),
    };
  }

  /** What the background job does when it is woken. */
  settleParked(): Promise<number> {
    return settleParked(this.services);
  }

  async payment(id: number): Promise<PaymentRow> {
    const row = await findPayment(this.store, id);
    if (row === undefined) throw new Error(`no payment ${id}`);
    return row;
  }

  periods(user: Pick<UserRow, 'id'>): Promise<SubscriptionPeriodRow[]> {
    return listPeriodsForUser(this.store, user.id);
  }

  /** Days that the user may use from `START` on. */
  async paidDays(user: UserRow): Promise<number> {
    const end = (await this.periods(user)).at(-1)?.ends_at ?? START;
    return (epochMs(end) - epochMs(START)) / (DAY * 1000);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.store[Symbol.asyncDispose]();
  }
}

/** A bot with every scope of this area. */
export const service: ServiceActor = {
  kind: 'service',
  keyId: 1,
  name: 'bot',
  scopes: new Set(['tariffs:write', 'subscriptions:read', 'subscriptions:write', 'payments:read', 'payments:write']),
};

export function customer(user: UserRow): Actor {
  return { kind: 'user', user, sessionId: 1 };
}

/** `payment.completed` for a payment as it was quoted. */
export function paid(payment: PaymentLike, data: Record<string, unknown> = {}) {
  return { type: 'payment.completed', data: { ...identity(payment), provider_payment_id: chargeOf(payment), ...data } };
}

export function failed(payment: PaymentLike, data: Record<string, unknown> = {}) {
  return { type: 'payment.failed', data: { ...identity(payment), ...data } };
}

export function refunded(payment: PaymentLike, data: Record<string, unknown> = {}) {
  return { type: 'payment.refunded', data: { ...identity(payment), refund_id: randomUUID(), ...data } };
}

interface PaymentLike {
  readonly id: number;
  readonly reference: string;
  readonly amount: string;
  readonly currency: string;
}

function identity({ id, reference, amount, currency }: PaymentLike) {
  return { reference, payment_id: id, amount, currency };
}

export function chargeOf({ reference }: Pick<PaymentLike, 'reference'>): string {
  return `charge-${reference}`;
}

/** One shop for all tests of a `describe`: each test brings its own customers and tariffs. */
export function useShop(engine: Engine, env?: Readonly<Record<string, string>>): { readonly shop: Shop } {
  let shop: Shop | undefined;
  beforeAll(async () => {
    shop = await Shop.open(engine, env);
    await shop.hireAdmin();
  });
  afterAll(() => shop?.[Symbol.asyncDispose]());
  return {
    get shop() {
      if (shop === undefined) throw new Error('the shop opens before the first test');
      return shop;
    },
  };
}

/** The store with some members replaced, for calls that must fail or wait in the middle. */
export function overridden(store: Store, changes: Readonly<Record<string, unknown>>): Store {
  return new Proxy(store, {
    get: (target, key) => {
      if (typeof key === 'string' && key in changes) return changes[key];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

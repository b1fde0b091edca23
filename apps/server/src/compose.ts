import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import {
  countUnpublishedEvents,
  ensureInstallId,
  openStore,
  readDeliveryBacklog,
  type ServerRow,
  type Store,
} from '@vpn-api/db';
import { OutboundGuard, type WgDriver } from '@vpn-api/wg';
import type { FastifyInstance } from 'fastify';
import serverPackage from '../package.json' with { type: 'json' };
import { appRouter } from './api/router.ts';
import { type Config, storeUrl } from './config/config.ts';
import { AccessTokens } from './crypto/access-tokens.ts';
import { Passwords } from './crypto/passwords.ts';
import { newUuid, systemRandom } from './crypto/random.ts';
import { SecretBox } from './crypto/secret-box.ts';
import { RateLimiter } from './http/rate-limit.ts';
import { buildHttpServer } from './http/server.ts';
import { systemClock } from './jobs/clock.ts';
import { DriverPool, driverOpener } from './jobs/drivers.ts';
import { ExpiryNotices } from './jobs/expiry-notices.ts';
import { makeHosts } from './jobs/hosts.ts';
import { Housekeeping } from './jobs/housekeeping.ts';
import { OutboxLoops } from './jobs/outbox.ts';
import { PaymentPollLoop } from './jobs/poll-payments.ts';
import { ReconcileLoops } from './jobs/reconcile.ts';
import { ParkedEventsLoop } from './jobs/settle-parked.ts';
import { createLogger, type Logger } from './obs/log.ts';
import { Metrics } from './obs/metrics.ts';
import { RejectionLog } from './obs/rejection-log.ts';
import { checkEncryptionKey } from './ops/check-encryption-key.ts';
import { syncEnvServer } from './ops/env-server.ts';
import type { ReconcileDeps } from './ops/reconcile-server.ts';
import { sampleServers } from './ops/sample-servers.ts';
import { WebhookSender } from './ops/send-webhook.ts';
import { makeProviders } from './pay/providers.ts';
import type { Clock, Random, Services } from './services.ts';

/** What tests put in place of the world outside. */
export interface Overrides {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Logger;
  readonly processMetrics?: boolean;
  readonly openDriver?: (server: ServerRow) => WgDriver;
}

/** A composed server: stopped until `start`, closed by `await using`. */
export interface Server extends AsyncDisposable {
  readonly services: Services;
  readonly http: FastifyInstance;
  readonly reconciler: ReconcileLoops;
  readonly parkedEvents: ParkedEventsLoop;
  readonly paymentPolls: PaymentPollLoop;
  readonly outbox: OutboxLoops;
  readonly expiryNotices: ExpiryNotices;
  /** Starts the background jobs and listens; answers the address. */
  start(): Promise<string>;
}

/**
 * The composition root: opens the database, migrates or refuses it, and wires every part by hand.
 * @throws SchemaMismatchError, PendingMigrationsError, WrongEncryptionKeyError, StoreUnavailableError
 */
export async function compose(config: Config, overrides: Overrides = {}): Promise<Server> {
  await using cleanup = new AsyncDisposableStack();
  const log = overrides.log ?? createLogger({ level: config.logLevel });
  const metrics = new Metrics({ processMetrics: overrides.processMetrics ?? true });
  const store = cleanup.use(await openConfiguredStore(config, log));
  await prepareSchema(store, config);
  const core = makeCore(config, { store, log, metrics, overrides });
  await checkEncryptionKey(core);
  await syncEnvServer(core);
  const installId = await ensureInstallId(store, newUuid(core.random).slice(0, 8));
  const drivers = cleanup.use(new DriverPool(overrides.openDriver ?? driverOpener(core)));
  const sender = cleanup.use(new WebhookSender(new OutboundGuard(config.outboundAllow)));
  const background = makeBackground({ ...core, installId }, { drivers, sender });
  const { reconciler, parkedEvents, paymentPolls, outbox, hosts } = background;
  const services: Services = {
    ...core,
    installId,
    reconciler,
    hosts,
    parkedEvents,
    paymentPolls,
    outbox,
    healthChecks: background.healthChecks,
  };
  metrics.watchQueue('password_hashes', () => core.passwords.waiting);
  metrics.watchQueue('unpublished_events', () => countUnpublishedEvents(store));
  metrics.watchQueue('webhook_deliveries', async () => (await readDeliveryBacklog(store)).pending);
  metrics.watchServers(() => sampleServers(core));
  const http = await buildHttpServer(services, { router: appRouter, document: await readDocument() });
  const stack = cleanup.move();
  return {
    services,
    http,
    reconciler,
    parkedEvents,
    paymentPolls,
    outbox,
    expiryNotices: background.expiryNotices,
    start: async () => {
      await background.start();
      return http.listen({ host: config.listen.host, port: config.listen.port });
    },
    [Symbol.asyncDispose]: async () => {
      // Requests first: they may still wake jobs; jobs next: they still write.
      await http.close();
      await background[Symbol.asyncDispose]();
      await stack.disposeAsync();
    },
  };
}

/** The committed document: the generator would cost a fifth of the memory and of the time to start. */
function readDocument(): Promise<string> {
  return readFile(createRequire(import.meta.url).resolve('@vpn-api/server/openapi.json'), 'utf8');
}

function openConfiguredStore(config: Config, log: Logger): Promise<Store> {
  return openStore(storeUrl(config.database), {
    poolSize: config.database.engine === 'postgres' ? config.database.poolSize : undefined,
    onHookError: (error) => log.error({ err: error }, 'a hook after the commit failed'),
    onConnectionError: (error) => log.warn({ err: error }, 'a database connection broke'),
  });
}

/** The database has a schema older than this program, and the settings do not let it migrate by itself. */
export class PendingMigrationsError extends Error {
  override readonly name = 'PendingMigrationsError';

  constructor(names: readonly string[]) {
    super(`The database waits for migrations (${names.join(', ')}). Run "npm run migrate", or set DEV_INIT_DB=1.`);
  }
}

async function prepareSchema(store: Store, config: Config): Promise<void> {
  await store.checkSchema();
  if (config.database.migrateAtStart) {
    await store.migrate();
    return;
  }
  const pending = await store.pendingMigrations();
  if (pending.length > 0) throw new PendingMigrationsError(pending);
}

interface CoreInput {
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly overrides: Overrides;
}

function makeCore(config: Config, { store, log, metrics, overrides }: CoreInput) {
  const clock = overrides.clock ?? systemClock;
  const random = overrides.random ?? systemRandom;
  const { secretKey, encryptionKeys } = config.secrets;
  const { algorithm, accessTokenSeconds, bcryptCost } = config.auth;
  return {
    config,
    store,
    log,
    metrics,
    clock,
    random,
    passwords: new Passwords({ secretKey, cost: bcryptCost }),
    accessTokens: new AccessTokens({ secretKey, algorithm, lifetimeSeconds: accessTokenSeconds, clock, random }),
    secretBox: new SecretBox(encryptionKeys, random),
    rateLimiter: new RateLimiter(config.rateLimits),
    providers: makeProviders(config),
    rejections: new RejectionLog({ log, clock }),
    outbox: { wake: () => {} },
    version: serverPackage.version,
  };
}

/** An unreachable database throws, which `/ready` reports as well. */
async function databaseHealth(store: Store): Promise<string | undefined> {
  const pending = await store.pendingMigrations();
  return pending.length > 0 ? 'migrations are pending' : undefined;
}

interface Outside {
  readonly drivers: DriverPool;
  readonly sender: WebhookSender;
}

function makeBackground(
  parts: ReturnType<typeof makeCore> & { readonly installId: string },
  { drivers, sender }: Outside,
) {
  const instanceId = randomUUID();
  const outbox = new OutboxLoops({ ...parts, instanceId, sender });
  const core = { ...parts, outbox };
  const reconcileDeps: ReconcileDeps = {
    ...core,
    instanceId,
    driverFor: (row) => drivers.driverFor(row),
    reconciler: { wake: (serverIds) => reconciler.wake(serverIds) },
  };
  const reconciler: ReconcileLoops = new ReconcileLoops(reconcileDeps);
  const paymentPolls: PaymentPollLoop = new PaymentPollLoop({
    ...core,
    reconciler,
    parkedEvents: { wake: () => parkedEvents.wake() },
  });
  const parkedEvents: ParkedEventsLoop = new ParkedEventsLoop({ ...core, reconciler, paymentPolls });
  const housekeeping = new Housekeeping(core);
  const expiryNotices = new ExpiryNotices(core);
  return {
    reconciler,
    hosts: makeHosts(reconcileDeps),
    parkedEvents,
    paymentPolls,
    outbox,
    expiryNotices,
    healthChecks: new Map([
      ['database', () => databaseHealth(core.store)],
      ['reconciler', () => reconciler.health()],
    ]),
    start: async () => {
      await reconciler.start();
      parkedEvents.wake();
      paymentPolls.wake();
      housekeeping.wake();
      expiryNotices.wake();
      await outbox.start();
    },
    [Symbol.asyncDispose]: async () => {
      const jobs = [reconciler, parkedEvents, paymentPolls, housekeeping, expiryNotices, outbox];
      await Promise.all(jobs.map((job) => job[Symbol.asyncDispose]()));
    },
  };
}

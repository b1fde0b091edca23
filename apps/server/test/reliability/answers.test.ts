import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Engine, listPeriodsForUser, listTariffs, updateUser } from '@vpn-api/db';
import { openTestStore, type TestStore } from '@vpn-api/db/testing';
import { generateKeyPair } from '@vpn-api/wg';
import { describe, test } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { counterAt, ServerProcess, secrets, signUp, temporaryFolder } from '../e2e/server-process.ts';
import { call, engines } from '../harness.ts';
import { MAIN } from './crash-world.ts';
import { type AnswerPoint, answerPoints, faultAt } from './faults.ts';
import { startRemoteHost } from './remote-host.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, seed } from './scale.ts';

const CALLERS = 50;

/** A creating call, and how many of what it makes are there. */
interface Creation {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  count(): Promise<number>;
}

describe.each(engines)('an Idempotency-Key at two servers on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test(`has one effect and one answer for ${CALLERS} callers at once`, async () => {
    const start = performance.now();
    await using world = await TwoServers.open(engine);
    const violations: string[] = [];
    for (const creation of await world.creations())
      violations.push(...(await callAtOnce(world, creation, bothServers)));
    finish({ engine, title: 'One key at two servers at once', calls: 5 * CALLERS, violations, start });
  });

  test.each(answerPoints)('has one effect when the first server dies: %s', async (point) => {
    const start = performance.now();
    await using world = await TwoServers.open(engine);
    const violations: string[] = [];
    for (const creation of await world.creations()) {
      await world.restartFirst(point);
      violations.push(...(await callAtOnce(world, creation, onlyTheFirst)));
      if (!(await world.firstDies())) violations.push(`${creation.path}: nobody died`);
    }
    violations.push(...(await runDoctor(world.store, { now: new Date().toISOString() })).map(({ message }) => message));
    finish({ engine, title: `A server dies with a key in hand: ${point}`, calls: 5 * CALLERS, violations, start });
  });
});

interface Finished {
  readonly engine: Engine;
  readonly title: string;
  readonly calls: number;
  readonly violations: readonly string[];
  readonly start: number;
}

function finish({ engine, title, calls, violations, start }: Finished): void {
  report({ id: 'Keys', title, engine, seed, counts: { calls }, violations, seconds: secondsSince(start) });
}

/** Which of the two servers a caller tries first. */
type FirstChoice = (caller: number) => number;
const bothServers: FirstChoice = (caller) => caller % 2;
const onlyTheFirst: FirstChoice = () => 0;

async function callAtOnce(world: TwoServers, { path, body, count }: Creation, choose: FirstChoice): Promise<string[]> {
  const before = await count();
  const key = randomUUID();
  const callers = Array.from({ length: CALLERS }, (_, n) => world.callUntilAnswered(choose(n), path, { key, body }));
  const answers = await Promise.all(callers);
  const made = (await count()) - before;
  const different = new Set(answers).size;
  return [
    ...(made === 1 ? [] : [`${path}: ${made} effects`]),
    ...(different === 1 ? [] : [`${path}: ${different} different answers`]),
  ];
}

interface Request {
  readonly key: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Two servers in processes of their own on one database. */
class TwoServers implements AsyncDisposable {
  readonly store: TestStore;
  readonly #env: Readonly<Record<string, string>>;
  readonly #folder: string;
  readonly #cleanup: AsyncDisposableStack;
  #servers: ServerProcess[] = [];
  #urls: string[] = [];
  #token = '';
  #leaseOfTheDead: Promise<void> | undefined;

  private constructor(parts: {
    readonly store: TestStore;
    readonly env: Readonly<Record<string, string>>;
    readonly folder: string;
    readonly cleanup: AsyncDisposableStack;
  }) {
    this.store = parts.store;
    this.#env = parts.env;
    this.#folder = parts.folder;
    this.#cleanup = parts.cleanup;
  }

  static async open(engine: Engine): Promise<TwoServers> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder()).path;
    const store = cleanup.use(await openTestStore(engine, { file: true, poolSize: 4 }));
    const remote = cleanup.use(await startRemoteHost());
    const env = {
      ...secrets,
      NODE_ENV: 'test',
      PORT: '0',
      DATA_DIR: folder,
      DATABASE_URL: store.url,
      DEV_INIT_DB: '1',
      BCRYPT_COST: '10',
      RATE_LIMITS: 'auth=0,default=0',
      LOG_LEVEL: 'error',
      WG_APPLY_ENABLED: '1',
      WG_ENDPOINT: 'vpn.example.com:51820',
      REMOTE_HOST: remote.url,
    };
    const world = new TwoServers({ store, env, folder, cleanup: cleanup.move() });
    await world.#start(0);
    await world.#start(1);
    const admin = await signUp(
      counterAt(() => world.#urls[1] ?? ''),
      'admin@example.com',
    );
    await updateUser(store, admin.id, { role: 'admin' });
    world.#token = admin.token;
    return world;
  }

  /** Kills itself at the point, the first time it comes there. */
  async restartFirst(point: AnswerPoint): Promise<void> {
    await this.#servers[0]?.[Symbol.asyncDispose]();
    this.#leaseOfTheDead = undefined;
    await this.#start(0, faultAt(point, 1));
  }

  /** Its end is noticed a moment after its last answer failed to come. */
  async firstDies(): Promise<boolean> {
    await Promise.race([this.#servers[0]?.exit, sleep(2_000)]);
    return this.#servers[0]?.hasEnded === true;
  }

  async #start(index: number, fault: Readonly<Record<string, string>> = {}): Promise<void> {
    const server = new ServerProcess({ env: { ...this.#env, ...fault }, cwd: this.#folder, main: MAIN });
    this.#servers[index] = server;
    this.#urls[index] = await server.ready();
  }

  /** As a client does: what is not answered, or asked to come back, is called again; a dead server's calls go to the other. */
  async callUntilAnswered(first: number, path: string, { key, body }: Request): Promise<string> {
    const options = { token: this.#token, headers: { 'idempotency-key': key }, body };
    for (let attempt = 0; attempt < 200; attempt += 1) {
      const url = this.#urls[(first + attempt) % 2];
      const answer = await call(`${url}${path}`, 'POST', options).catch(() => undefined);
      if (answer?.status === 200) return answer.text;
      if (answer !== undefined && answer.status !== 409) return `${answer.status} ${answer.text}`;
      if (this.#servers[0]?.hasEnded) await this.#endLeaseOfTheDead();
      await sleep(50);
    }
    return 'never answered';
  }

  /** The minute for which a dead server's call counts as running is over. Once: what the other server claims is its own. */
  #endLeaseOfTheDead(): Promise<void> {
    this.#leaseOfTheDead ??= this.store.kysely
      .updateTable('idempotency_keys')
      .set({ lease_until: new Date(0).toISOString() })
      .where('answer', 'is', null)
      .execute()
      .then(() => {});
    return this.#leaseOfTheDead;
  }

  async creations(): Promise<readonly Creation[]> {
    const { store } = this;
    const tariff = await this.#create<{ id: number }>('/tariffs', { name: 'Year', price: '60.00', currency: 'USD' });
    const user = await this.#create<{ id: number }>('/users/ensure', { email: `${randomUUID()}@example.com` });
    await this.#create('/subscriptions/grant', { user_id: user.id, tariff_id: tariff.id });
    const sale = { user_id: user.id, tariff_id: tariff.id };
    const countOf = (table: 'payments' | 'peers') => async () => {
      const rows = store.kysely.selectFrom(table).select((eb) => eb.fn.countAll<number>().as('count'));
      return Number((await rows.executeTakeFirstOrThrow()).count);
    };
    return [
      {
        path: '/tariffs',
        body: { name: randomUUID(), price: '5.00', currency: 'USD' },
        count: async () => (await listTariffs(store)).length,
      },
      {
        path: '/subscriptions/grant',
        body: sale,
        count: async () => (await listPeriodsForUser(store, user.id)).length,
      },
      {
        path: '/subscriptions/extend',
        body: { user_id: user.id, days: 3, reason: 'the host was down' },
        count: async () => (await listPeriodsForUser(store, user.id)).length,
      },
      { path: '/payments', body: { ...sale, provider: 'manual' }, count: countOf('payments') },
      {
        path: '/vpn_peers',
        body: { user_id: user.id, wg_public_key: generateKeyPair().publicKey },
        count: countOf('peers'),
      },
    ];
  }

  async #create<T>(path: string, body: Readonly<Record<string, unknown>>): Promise<T> {
    const text = await this.callUntilAnswered(1, path, { key: randomUUID(), body });
    return JSON.parse(text) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.#cleanup.disposeAsync();
  }
}

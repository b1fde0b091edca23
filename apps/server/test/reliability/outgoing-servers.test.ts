import { randomUUID } from 'node:crypto';
import { countPublishedEvents, listPublishedEvents, updateUser } from '@vpn-api/db';
import { openTestStore, type TestStore } from '@vpn-api/db/testing';
import { test } from 'vitest';
import { eventually } from '../e2e/eventually.ts';
import { counterAt, ServerProcess, secrets, signUp, temporaryFolder } from '../e2e/server-process.ts';
import { call } from '../harness.ts';
import { type Behaviour, Receiver } from '../outbox/receiver.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

const RECEIVERS = 2;
const EVENTS_PER_KILL = 40;
/** Slow enough that a killed server has always something under way. */
const slowly: Behaviour = (response) => void setTimeout(() => response.writeHead(204).end(), 10);

test('two servers that are killed in turn deliver every event in order to every receiver', {
  timeout: SCENARIO_TIMEOUT_MS,
}, async () => {
  const start = performance.now();
  const dice = new Dice(seed);
  await using world = await TwoServers.open();
  for (let kill = 0; kill < scale.writerKills; kill += 1) {
    const arrived = world.arrived() + dice.between(5, EVENTS_PER_KILL / 2);
    const news = world.tell(EVENTS_PER_KILL);
    await eventually('both deliver', 30_000, () => world.arrived() >= arrived);
    await world.killAndReplace(kill % 2);
    await news;
  }
  await world.allArrived();
  const violations = world.receivers.flatMap(({ received }, n) => disorder(received, n));
  for (const [n, { received }] of world.receivers.entries()) {
    const repeats = received.length - new Set(received.map(({ id }) => id)).size;
    // What was under way when a server died; nothing else is sent twice.
    if (repeats > scale.writerKills) violations.push(`receiver ${n} got ${repeats} events twice`);
  }
  const events = world.receivers[0]?.received.length ?? 0;
  report({
    id: 'Outbox',
    title: 'Two servers that are killed while they deliver',
    engine: 'postgres',
    seed,
    counts: { kills: scale.writerKills, receivers: RECEIVERS, events },
    violations,
    seconds: secondsSince(start),
  });
});

/** A repeat may follow its event at once, as the next server cannot know; apart from that each comes behind the one before. */
function disorder(received: Receiver['received'], n: number): string[] {
  const places = received.map(({ id }) => Number(id.replace('evt_', '')));
  const once = places.filter((place, index) => place !== places[index - 1]);
  return once.flatMap((place, index) =>
    index === 0 || place === (once[index - 1] ?? 0) + 1 ? [] : [`receiver ${n} got ${place} behind ${once[index - 1]}`],
  );
}

class TwoServers implements AsyncDisposable {
  readonly receivers: Receiver[] = [];
  readonly #store: TestStore;
  readonly #env: Readonly<Record<string, string>>;
  readonly #folder: string;
  #cleanup: AsyncDisposableStack;
  readonly #servers: ServerProcess[] = [];
  readonly #urls: string[] = [];
  #token = '';

  private constructor(store: TestStore, folder: string, cleanup: AsyncDisposableStack) {
    this.#store = store;
    this.#folder = folder;
    this.#cleanup = cleanup;
    const settings = { NODE_ENV: 'test', PORT: '0', DEV_INIT_DB: '1', BCRYPT_COST: '10', LOG_LEVEL: 'error' };
    const outside = { OUTBOUND_ALLOW: '127.0.0.0/8', RATE_LIMITS: 'auth=0,default=0' };
    this.#env = { ...secrets, ...settings, ...outside, DATA_DIR: folder, DATABASE_URL: store.url };
  }

  static async open(): Promise<TwoServers> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder()).path;
    const store = cleanup.use(await openTestStore('postgres', { file: true, poolSize: 4 }));
    const world = new TwoServers(store, folder, cleanup);
    await world.#start(0);
    await world.#start(1);
    const admin = await signUp(
      counterAt(() => world.#urls[0] ?? ''),
      'admin@example.com',
    );
    await updateUser(store, admin.id, { role: 'admin' });
    world.#token = admin.token;
    for (let n = 0; n < RECEIVERS; n += 1) await world.#addReceiver();
    world.#cleanup = cleanup.move();
    return world;
  }

  async #start(index: number): Promise<void> {
    const server = new ServerProcess({ env: this.#env, cwd: this.#folder });
    this.#servers[index] = server;
    this.#urls[index] = await server.ready();
  }

  async #addReceiver(): Promise<void> {
    const receiver = this.#cleanup.use(await Receiver.start());
    receiver.behaviour = slowly;
    this.receivers.push(receiver);
    const options = { token: this.#token, body: { url: receiver.url } };
    const made = await call(`${this.#urls[0]}/webhook_endpoints`, 'POST', options);
    if (made.status !== 200) throw new Error(made.text);
  }

  /** At the receiver that knows least. */
  arrived(): number {
    return Math.min(...this.receivers.map(({ received }) => received.length));
  }

  /** New customers, half of them by each server; those of one that is dead by the other. */
  async tell(count: number): Promise<void> {
    const half = async (first: number) => {
      for (let n = 0; n < count / 2; n += 1) await this.#tellOne(first);
    };
    await Promise.all([half(0), half(1)]);
  }

  async #tellOne(first: number): Promise<void> {
    const options = { token: this.#token, body: { email: `${randomUUID()}@example.com` } };
    const ask = (server: number) =>
      call(`${this.#urls[server]}/users/ensure`, 'POST', options).then(
        ({ status }) => status === 200,
        () => false,
      );
    await eventually('a customer is made', 30_000, async () => (await ask(first)) || (await ask(1 - first)));
  }

  async killAndReplace(index: number): Promise<void> {
    await this.#servers[index]?.end('SIGKILL');
    // The half minute is over for which the dead one holds its endpoints.
    const ended = { lease_until: new Date(0).toISOString() };
    await this.#store.kysely.updateTable('webhook_endpoints').set(ended).execute();
    await this.#start(index);
  }

  async allArrived(): Promise<void> {
    const waiting = this.#store.kysely.selectFrom('webhook_deliveries').select('id').where('status', '=', 'pending');
    await eventually('every event is delivered', 90_000, async () => {
      const last = (await listPublishedEvents(this.#store, {}, { skip: await this.#lastIndex() })).at(-1)?.position;
      const isThere = this.receivers.every(({ received }) => received.at(-1)?.id === `evt_${last}`);
      return isThere && (await waiting.execute()).length === 0;
    });
  }

  async #lastIndex(): Promise<number> {
    return (await countPublishedEvents(this.#store, {})) - 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.#cleanup.disposeAsync();
  }
}

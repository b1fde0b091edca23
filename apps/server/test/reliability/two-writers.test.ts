import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  insertAudit,
  insertPeer,
  insertPeriod,
  insertServer,
  insertUser,
  listPeers,
  listServers,
  type ServerRow,
  type Store,
  type Tx,
  updateServer,
} from '@vpn-api/db';
import { openTestStore } from '@vpn-api/db/testing';
import { startWgEasyStub, type WgEasyStub } from '@vpn-api/wg/testing';
import { describe, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { SecretBox } from '../../src/crypto/secret-box.ts';
import { addSeconds, DAY_SECONDS, toInstant } from '../../src/domain/instant.ts';
import { runDoctor } from '../../src/ops/doctor.ts';
import { sealCredentials } from '../../src/ops/host-credentials.ts';
import { eventually } from '../e2e/eventually.ts';
import { ServerProcess, secrets, temporaryFolder } from '../e2e/server-process.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

const HOSTS = 3;
const LATENCY_MS = 20;
/** The lease of a dead process, one interval, and the work that it left. */
const TAKES_OVER_MS = 30_000;
const START_MS = 60_000;

/** Two processes of the real program on one PostgreSQL, with three wg-easy hosts that note who writes when. */
describe('two servers on one database', { timeout: SCENARIO_TIMEOUT_MS }, () => {
  test('never write to a host at the same time, and one takes over what the other left when it was killed', async () => {
    const start = performance.now();
    await using world = await World.open();
    const violations: string[] = [];
    let slowestMs = 0;
    for (let kill = 0; kill < scale.writerKills; kill += 1) {
      await world.order(scale.peersPerHost);
      const doomed = await world.killAtWork((seed + kill) % 2);
      await world.order(1);
      const took = await eventually('the other took over', TAKES_OVER_MS, () => world.isConverged()).catch(() => null);
      if (took === null) violations.push(`kill ${kill + 1}: not converged ${TAKES_OVER_MS} ms after it`);
      slowestMs = Math.max(slowestMs, took ?? TAKES_OVER_MS);
      await world.restart(doomed);
    }
    violations.push(...(await world.brokenPromises()));
    report({
      id: 'Writers',
      title: 'Two servers, three hosts, one of the servers killed',
      engine: 'postgres',
      seed,
      counts: {
        hosts: HOSTS,
        peers: (await listPeers(world.store, {}, { limit: 100_000 })).length,
        kills: scale.writerKills,
        'slowest take-over, ms': Math.round(slowestMs),
      },
      violations,
      seconds: secondsSince(start),
    });
  });
});

class World implements AsyncDisposable {
  readonly store: Store;
  readonly stubs: readonly WgEasyStub[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #folder: string;
  readonly #cleanup: AsyncDisposableStack;
  readonly #processes: ServerProcess[] = [];

  private constructor(parts: {
    readonly store: Store;
    readonly stubs: readonly WgEasyStub[];
    readonly env: Readonly<Record<string, string>>;
    readonly folder: string;
    readonly cleanup: AsyncDisposableStack;
  }) {
    this.store = parts.store;
    this.stubs = parts.stubs;
    this.#env = parts.env;
    this.#folder = parts.folder;
    this.#cleanup = parts.cleanup;
  }

  static async open(): Promise<World> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder()).path;
    const store = cleanup.use(await openTestStore('postgres', { poolSize: 4 }));
    const stubs: WgEasyStub[] = [];
    for (let n = 0; n < HOSTS; n += 1) {
      const version = n % 2 === 0 ? 14 : 15;
      stubs.push(
        cleanup.use(await startWgEasyStub({ version, latencyMs: LATENCY_MS, clients: 2, pool: '10.8.0.0/16' })),
      );
    }
    const env = {
      ...secrets,
      NODE_ENV: 'test',
      PORT: '0',
      DATA_DIR: folder,
      DATABASE_URL: store.url,
      LOG_LEVEL: 'error',
      OUTBOUND_ALLOW: '127.0.0.0/8',
      RECONCILE_INTERVAL_SECONDS: '1',
      WG_EASY_URL: stubs[0]?.url ?? '',
      WG_EASY_PASSWORD: stubs[0]?.password ?? '',
      WG_POOL_V4: '10.8.0.0/16',
    };
    const world = new World({ store, stubs, env, folder, cleanup: cleanup.move() });
    await world.restart(0);
    for (const [index, stub] of stubs.entries()) if (index > 0) await addServer(store, stub, `host-${index}`);
    await world.restart(1);
    return world;
  }

  async restart(index: number): Promise<void> {
    const process = new ServerProcess({ env: this.#env, cwd: this.#folder });
    this.#processes[index] = process;
    await process.ready();
  }

  /** Paid customers with a device on each host. */
  async order(countPerHost: number): Promise<void> {
    const servers = await listServers(this.store);
    await this.store.transaction(async (tx) => {
      for (const server of servers) for (let n = 0; n < countPerHost; n += 1) await insertPaidPeer(tx, server);
    });
  }

  /** Kills one of the two while some host is worked on. Answers which. */
  async killAtWork(index: number): Promise<number> {
    const owners = async () => new Set((await listServers(this.store)).flatMap(({ lease_owner }) => lease_owner ?? []));
    await eventually('somebody works on a host', START_MS, async () => (await owners()).size > 0);
    await sleep(100);
    await this.#processes[index]?.end('SIGKILL');
    return index;
  }

  async isConverged(): Promise<boolean> {
    const peers = await listPeers(this.store, {}, { limit: 100_000 });
    return peers.every((peer) => peer.public_key !== null && peer.applied_state === 'present');
  }

  async brokenPromises(): Promise<string[]> {
    const violations: string[] = [];
    for (const server of await listServers(this.store)) {
      const stub = this.stubs[server.id - 1];
      const peers = await listPeers(this.store, { serverId: server.id }, { limit: 100_000 });
      const ours = stub?.clients().filter(({ name }) => !String(name).startsWith('by hand')) ?? [];
      const keys = new Set(ours.map(({ publicKey }) => publicKey as string));
      if (ours.length !== peers.length)
        violations.push(`${server.name}: ${ours.length} clients, ${peers.length} peers`);
      if (peers.some(({ public_key }) => !keys.has(public_key ?? ''))) violations.push(`${server.name}: a wrong key`);
      const most = stub?.maxConcurrentMutations ?? 0;
      if (most !== 1) violations.push(`${server.name}: ${most} changes at the same time`);
    }
    const findings = await runDoctor(this.store, { now: new Date().toISOString() });
    return [...violations, ...findings.map(({ invariant, message }) => `${invariant}: ${message}`)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes) await process[Symbol.asyncDispose]();
    await this.#cleanup.disposeAsync();
  }
}

async function addServer(store: Store, stub: WgEasyStub, name: string): Promise<void> {
  const server = await insertServer(store, {
    name,
    driver: 'wg-easy',
    keys: 'reported',
    mode: 'apply',
    origin: 'api',
    address: stub.url,
    pool_v4: '10.8.0.0/16',
    created_at: new Date().toISOString(),
  });
  const secretBox = new SecretBox(loadConfig(secrets).config.secrets.encryptionKeys);
  const credentials_sealed = sealCredentials({ secretBox }, server.id, { password: stub.password });
  await updateServer(store, server.id, { credentials_sealed });
}

let seq = 0;

async function insertPaidPeer(tx: Tx, { id: server_id }: ServerRow): Promise<void> {
  const now = toInstant(Date.now());
  const user = await insertUser(tx, { email: `${randomUUID()}@example.com`, created_at: now });
  seq += 1;
  await insertPeriod(tx, {
    ...{ user_id: user.id, seq, tariff_name: 'Month', price_minor: 999, currency: 'USD', duration_days: 30 },
    ...{ device_limit: 1, grace_days: 0, source: 'admin', granted_at: now, length_seconds: 30 * DAY_SECONDS },
    ...{ starts_at: now, ends_at: addSeconds(now, 30 * DAY_SECONDS), created_at: now },
  });
  const target = `user:${user.id}`;
  await insertAudit(tx, { at: now, actor: 'cli', action: 'subscription.grant', target, details: '{}' });
  await insertPeer(tx, { user_id: user.id, server_id, key_origin: 'host', allowed_ips: '0.0.0.0/0', created_at: now });
}

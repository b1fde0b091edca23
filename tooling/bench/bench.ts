import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as postgres from '../vitest/postgres.ts';
import { openAccounts } from './api.ts';
import { drive, type Slice, type Workload } from './load.ts';
import { type MeasuredServer, startMeasured } from './measured-server.ts';
import { createPeers, type PeerTimes } from './peers.ts';
import { printReport } from './report.ts';
import { prepareWorkloads } from './workloads.ts';

export interface Comparison {
  readonly name: string;
  /** As fast as they are answered. */
  readonly requestsPerSecond: number;
  readonly bareRequestsPerSecond: number;
  /** Both at the same rate. */
  readonly call: Slice;
  readonly bare: Slice;
  /** CPU of the call per CPU of the bare route, the median over the rounds. */
  readonly cpuRatio: number;
}

export interface EngineReport {
  readonly engine: string;
  readonly calls: readonly Comparison[];
  readonly peers: PeerTimes;
  readonly rssAfterLoadBytes: number;
}

export interface StartReport {
  /** With an empty database, migrations included, and then again with that database; median of three. */
  readonly firstStartMs: number;
  readonly laterStartMs: number;
  readonly idleRssBytes: number;
}

export interface BenchReport {
  readonly node: string;
  readonly start: StartReport;
  readonly engines: readonly EngineReport[];
}

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    /** Length of each slice. */
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' },
    peers: { type: 'string', default: '1000' },
    /** Payments settled in all rounds together. */
    payments: { type: 'string', default: '3000' },
    /** Requests a second while CPU is measured. */
    rate: { type: 'string', default: '500' },
  },
});
const limits = {
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
  peers: Number(values.peers),
  rate: Number(values.rate),
};

const secrets = {
  PROMOTE_SECRET: 'the-benchmark-promotes-its-admin-with-this',
  PAYMENT_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 'bench').toString('base64')}`,
};
const bareLoad: Workload = { name: 'bare route', next: () => ({ method: 'GET', path: '/ready' }) };
const folder = await mkdtemp(join(tmpdir(), 'vpn-api-bench-'));
try {
  const report = await measure();
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else printReport(report);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function measure(): Promise<BenchReport> {
  const start = await measureStart();
  const sqlite = await measureEngine('sqlite', `sqlite:${join(folder, 'bench.db')}`);
  await postgres.setup();
  try {
    // Empty and migrated; dropped by the teardown even on a PostgreSQL that is not ours.
    const url = new URL(`/${process.env.TEST_DATABASE_TEMPLATE}`, process.env.TEST_DATABASE_URL);
    return { node: process.version, start, engines: [sqlite, await measureEngine('postgres', url.href)] };
  } finally {
    await postgres.teardown();
  }
}

function startServer(databaseUrl: string): Promise<MeasuredServer> {
  const env = {
    ...secrets,
    DATA_DIR: folder,
    DATABASE_URL: databaseUrl,
    DEV_INIT_DB: '1',
    LOG_LEVEL: 'error',
    RATE_LIMITS: 'auth=0,default=0',
    WG_POOL_V4: '10.8.0.0/16',
  };
  return startMeasured('apps/server/dist/main.js', { cwd: folder, env });
}

async function measureStart(): Promise<StartReport> {
  const first: number[] = [];
  const later: number[] = [];
  const memory: number[] = [];
  for (const round of [1, 2, 3]) {
    const url = `sqlite:${join(folder, `start-${round}.db`)}`;
    first.push(await startAndStop(url));
    await using server = await startServer(url);
    later.push(server.startMs);
    // Start-up garbage is gone by then.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    memory.push((await server.usage()).rssBytes);
  }
  return { firstStartMs: median(first), laterStartMs: median(later), idleRssBytes: median(memory) };
}

async function startAndStop(url: string): Promise<number> {
  await using server = await startServer(url);
  return server.startMs;
}

async function measureEngine(engine: string, databaseUrl: string): Promise<EngineReport> {
  await using server = await startServer(databaseUrl);
  await using bare = await startMeasured('tooling/bench/bare-server.ts', { cwd: folder, env: {} });
  const accounts = await openAccounts(server.baseUrl, secrets.PROMOTE_SECRET);
  const peers = await createPeers(accounts, limits.peers);
  const webhookSecret = secrets.PAYMENT_WEBHOOK_SECRET;
  const workloads = await prepareWorkloads({
    accounts,
    webhookSecret,
    payments: Number(values.payments),
    slices: 2 * (limits.rounds + 1),
  });
  const calls: Comparison[] = [];
  for (const workload of workloads) calls.push(await compare(server, bare, workload));
  return { engine, calls, peers, rssAfterLoadBytes: (await server.usage()).rssBytes };
}

interface Pair {
  readonly fast: Slice;
  readonly bareFast: Slice;
  readonly call: Slice;
  readonly bare: Slice;
}

/**
 * In interleaved pairs, so that a machine that gets slower or faster meanwhile does so for both. The first pair only
 * warms up. CPU is compared at one rate: a server that is the slower of the two keeps its client waiting, and waking a
 * client costs the kernel more than all of a bare route.
 */
async function compare(server: MeasuredServer, bare: MeasuredServer, workload: Workload): Promise<Comparison> {
  const pairs: Pair[] = [];
  await measurePair(server, bare, workload);
  for (let round = 0; round < limits.rounds; round += 1) pairs.push(await measurePair(server, bare, workload));
  const cpuRatio = median(pairs.map(ratioOf));
  const middle = pairs.find((pair) => ratioOf(pair) === cpuRatio);
  if (middle === undefined) throw new Error('At least one round is needed');
  return {
    name: workload.name,
    requestsPerSecond: median(pairs.map(({ fast }) => fast.requestsPerSecond)),
    bareRequestsPerSecond: median(pairs.map(({ bareFast }) => bareFast.requestsPerSecond)),
    call: middle.call,
    bare: middle.bare,
    cpuRatio,
  };
}

async function measurePair(server: MeasuredServer, bare: MeasuredServer, workload: Workload): Promise<Pair> {
  const { seconds, rate } = limits;
  const requests = workload.limit ?? Number.POSITIVE_INFINITY;
  const bareFast = await drive(bare, bareLoad, { seconds, requests: Number.POSITIVE_INFINITY });
  const fast = await drive(server, workload, { seconds, requests });
  const call = await drive(server, workload, { seconds, requests, rate });
  const sameRate = Math.min(rate, call.requestsPerSecond);
  return {
    bareFast,
    fast,
    call,
    bare: await drive(bare, bareLoad, { seconds, requests: Number.POSITIVE_INFINITY, rate: sameRate }),
  };
}

function ratioOf({ call, bare }: Pair): number {
  return call.cpuMicrosecondsPerRequest / bare.cpuMicrosecondsPerRequest;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

import { Pool } from 'undici';
import type { MeasuredServer } from './measured-server.ts';

export interface Call {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** One kind of request. `next` answers undefined when there are no more of them. */
export interface Workload {
  readonly name: string;
  readonly next: () => Call | undefined;
  /** Requests of one slice at most, when there are only so many. */
  readonly limit?: number;
}

export interface Slice {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly cpuMicrosecondsPerRequest: number;
}

/** Enough to keep a one-core server busy without a queue that hides its speed. */
const CONNECTIONS = 16;

export interface Pace {
  readonly seconds: number;
  /** Requests at most. */
  readonly requests: number;
  /** Requests a second, spread evenly; without it as fast as they are answered. */
  readonly rate?: number;
}

/**
 * Repeats a request over keep-alive connections until the time is over or there are no more. Any answer but 2xx is an
 * error.
 */
export async function drive(server: MeasuredServer, workload: Workload, pace: Pace): Promise<Slice> {
  const pool = new Pool(server.baseUrl, { connections: CONNECTIONS, pipelining: 1 });
  const before = await server.usage();
  const startedAt = performance.now();
  const share = { ...pace, requests: Math.ceil(pace.requests / CONNECTIONS) };
  const counts = await Promise.all(
    Array.from({ length: CONNECTIONS }, (_, index) => repeat(pool, workload, { ...share, startedAt, index })),
  );
  const elapsedSeconds = (performance.now() - startedAt) / 1000;
  const after = await server.usage();
  await pool.close();
  const requests = counts.reduce((sum, count) => sum + count, 0);
  if (requests === 0) throw new Error(`${workload.name}: no request was made`);
  return {
    requests,
    requestsPerSecond: requests / elapsedSeconds,
    cpuMicrosecondsPerRequest: (after.cpuMicroseconds - before.cpuMicroseconds) / requests,
  };
}

interface Share extends Pace {
  readonly startedAt: number;
  /** Which of the connections: they take turns. */
  readonly index: number;
}

async function repeat(
  pool: Pool,
  workload: Workload,
  { startedAt, seconds, requests, rate, index }: Share,
): Promise<number> {
  const gapMs = rate === undefined ? 0 : (CONNECTIONS * 1000) / rate;
  const deadline = startedAt + seconds * 1000;
  let count = 0;
  while (count < requests) {
    const due = startedAt + gapMs * (count + index / CONNECTIONS);
    if (Math.max(due, performance.now()) >= deadline) break;
    if (due > performance.now()) await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    const call = workload.next();
    if (call === undefined) break;
    await send(pool, call);
    count += 1;
  }
  return count;
}

async function send(pool: Pool, call: Call): Promise<void> {
  const { statusCode, body } = await pool.request(call);
  if (statusCode >= 200 && statusCode < 300) return void (await body.dump());
  throw new Error(`${call.method} ${call.path} answered ${statusCode}: ${await body.text()}`);
}

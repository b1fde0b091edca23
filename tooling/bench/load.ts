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
}

export interface Slice {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly cpuMicrosecondsPerRequest: number;
}

/** Enough to keep a one-core server busy without a queue that hides its speed. */
const CONNECTIONS = 16;

/** Repeats a request over keep-alive connections for `seconds`, or until there are no more. Any answer but 2xx is an error. */
export async function drive(server: MeasuredServer, workload: Workload, seconds: number): Promise<Slice> {
  const pool = new Pool(server.baseUrl, { connections: CONNECTIONS, pipelining: 1 });
  const before = await server.usage();
  const startedAt = performance.now();
  const deadline = startedAt + seconds * 1000;
  const counts = await Promise.all(Array.from({ length: CONNECTIONS }, () => repeat(pool, workload, deadline)));
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

async function repeat(pool: Pool, workload: Workload, deadline: number): Promise<number> {
  let count = 0;
  while (performance.now() < deadline) {
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

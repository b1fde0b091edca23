import type { BenchReport, EngineReport } from './bench.ts';

/** The report as a few tables for people. */
export function printReport({ node, start, engines }: BenchReport): void {
  console.log(`Node ${node}. One process per server; CPU is that of the server, all its threads.\n`);
  console.log(
    `start to first answer  ${ms(start.firstStartMs)} with an empty database, ${ms(start.laterStartMs)} later`,
  );
  console.log(`idle memory            ${megabytes(start.idleRssBytes)}`);
  for (const engine of engines) printEngine(engine);
}

function printEngine({ engine, calls, peers, rssAfterLoadBytes }: EngineReport): void {
  console.log(
    `\n${engine.padEnd(26)}${['requests/s', 'bare/s', 'µs CPU', 'bare µs', 'CPU ratio'].map(column).join('')}`,
  );
  for (const { name, requestsPerSecond, bareRequestsPerSecond, call, bare, cpuRatio } of calls) {
    const numbers = [
      requestsPerSecond,
      bareRequestsPerSecond,
      call.cpuMicrosecondsPerRequest,
      bare.cpuMicrosecondsPerRequest,
    ];
    console.log(
      `${name.padEnd(26)}${numbers.map((n) => column(n.toFixed(0))).join('')}${column(`${cpuRatio.toFixed(2)}x`)}`,
    );
  }
  const { createdSeconds, appliedSeconds } = peers;
  console.log(
    `${peers.peers} peers: created in ${createdSeconds.toFixed(2)} s, all applied after ${appliedSeconds.toFixed(2)} s`,
  );
  console.log(`memory after the load: ${megabytes(rssAfterLoadBytes)}`);
}

function column(text: string): string {
  return text.padStart(12);
}

function ms(value: number): string {
  return `${value.toFixed(0)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

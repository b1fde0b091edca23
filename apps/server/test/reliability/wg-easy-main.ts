import { startWgEasyStub } from '@vpn-api/wg/testing';

/** A wg-easy in a process of its own, as a real one is: what it computes does not slow down the server under test. */
const { VERSION, PORT, LATENCY_MS, PASSWORD } = process.env;

await startWgEasyStub({
  version: VERSION === '14' ? 14 : 15,
  port: Number(PORT),
  latencyMs: Number(LATENCY_MS),
  password: PASSWORD ?? '',
  pool: '10.8.0.0/16',
  clients: ['by hand'],
});
process.stdout.write('ready\n');

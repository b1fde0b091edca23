import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type SpawnedServer, type SpawnOptions, spawnServer } from '../dev/spawn-server.ts';
import type { Usage } from './report-usage.ts';

const reporter = new URL('./report-usage.ts', import.meta.url).href;
const root = fileURLToPath(new URL('../..', import.meta.url));

export interface MeasuredServer extends SpawnedServer {
  usage(): Promise<Usage>;
}

/** A child process that can be asked for its CPU time and memory. `script` is relative to the top of the checkout. */
export async function startMeasured(script: string, options: Omit<SpawnOptions, 'command'>): Promise<MeasuredServer> {
  const server = await spawnServer({ ...options, command: ['--import', reporter, root + script] });
  const usage = async () => {
    const answer = once(server.child, 'message');
    server.child.send('usage');
    const [message] = await answer;
    return message as Usage;
  };
  return { ...server, usage };
}

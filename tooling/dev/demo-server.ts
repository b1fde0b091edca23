import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answers, spawnServer } from './spawn-server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const serverEntry = join(root, 'apps/server/dist/main.js');

export interface DemoServer extends AsyncDisposable {
  readonly baseUrl: string;
  /** Where the server keeps its data, and the demo its admin's password. */
  readonly dataDir: string;
  readonly promoteSecret: string;
  readonly webhookSecret: string;
  /** Ours goes away with the demo. */
  readonly own: boolean;
}

/**
 * The server to play against: `BASE_URL`, or the one that `npm start` runs, or a new one with an empty database that lives as long as
 * the demo. The secrets of a running server come from the environment, else from its `DATA_DIR/secrets.json`.
 */
export async function openDemoServer(env: NodeJS.ProcessEnv): Promise<DemoServer> {
  const wanted = env.BASE_URL?.trim();
  const baseUrl = (wanted || `http://127.0.0.1:${env.PORT?.trim() || '8000'}`).replace(/\/+$/, '');
  const running = (await answers(`${baseUrl}/ready`)) ? await findRunning(baseUrl, env) : undefined;
  if (running !== undefined) return running;
  if (wanted) console.log(`No server to play with at ${baseUrl}: starting one for the demo.`);
  return startOwn();
}

/** Undefined when its secrets are not known here: somebody else's server. */
async function findRunning(baseUrl: string, env: NodeJS.ProcessEnv): Promise<DemoServer | undefined> {
  const dataDir = env.DATA_DIR?.trim() || join(root, 'data');
  const stored = await readSecrets(join(dataDir, 'secrets.json'));
  const promoteSecret = env.PROMOTE_SECRET?.trim() || stored.PROMOTE_SECRET;
  const webhookSecret = env.PAYMENT_WEBHOOK_SECRET?.trim() || stored.PAYMENT_WEBHOOK_SECRET;
  if (promoteSecret === undefined || webhookSecret === undefined) return undefined;
  return { baseUrl, dataDir, promoteSecret, webhookSecret, own: false, [Symbol.asyncDispose]: async () => {} };
}

async function startOwn(): Promise<DemoServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'vpn-api-demo-'));
  const env = { DATA_DIR: dataDir, LOG_LEVEL: 'error' };
  const server = await spawnServer({ command: [serverEntry], cwd: dataDir, env });
  const { PROMOTE_SECRET = '', PAYMENT_WEBHOOK_SECRET = '' } = await readSecrets(join(dataDir, 'secrets.json'));
  return {
    baseUrl: server.baseUrl,
    dataDir,
    promoteSecret: PROMOTE_SECRET,
    webhookSecret: PAYMENT_WEBHOOK_SECRET,
    own: true,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function readSecrets(path: string): Promise<Partial<Record<string, string>>> {
  const text = await readFile(path, 'utf8').catch(() => '{}');
  return JSON.parse(text);
}

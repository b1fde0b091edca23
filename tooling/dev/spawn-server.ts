import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

export interface SpawnOptions {
  /** What Node runs: the path of a script and its arguments. */
  readonly command: readonly string[];
  /** Working directory, which is also where a `.env` would be looked for. */
  readonly cwd: string;
  /** Added to PATH and HOME; nothing else is inherited, so that settings of the caller do not leak in. `PORT` is chosen here. */
  readonly env: Readonly<Record<string, string>>;
  /** Answers 2xx when the server is up. Default `/ready`. */
  readonly readyPath?: string;
}

export interface SpawnedServer extends AsyncDisposable {
  readonly baseUrl: string;
  readonly child: ChildProcess;
  /** From the start of the process to the first answer, in milliseconds. */
  readonly startMs: number;
}

/** A start that takes longer has failed; a loaded machine needs a few seconds for the migrations. */
const START_LIMIT_MS = 30_000;

/** Starts a server on a free port of the loopback address and waits for its first good answer. */
export async function spawnServer({ command, cwd, env, readyPath = '/ready' }: SpawnOptions): Promise<SpawnedServer> {
  const port = await freePort();
  const startedAt = performance.now();
  const child = spawn(process.execPath, command, {
    cwd,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, HOST: '127.0.0.1', PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const output = collectOutput(child);
  const baseUrl = `http://127.0.0.1:${port}`;
  await firstAnswer({ url: baseUrl + readyPath, child, output });
  return { baseUrl, child, startMs: performance.now() - startedAt, [Symbol.asyncDispose]: () => stop(child) };
}

/** The last of what the server said, for the message when it does not start. */
function collectOutput(child: ChildProcess): () => string {
  let text = '';
  const add = (chunk: Buffer) => {
    text = (text + chunk.toString('utf8')).slice(-4_000);
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  return () => text;
}

async function firstAnswer(wait: { url: string; child: ChildProcess; output: () => string }): Promise<void> {
  const deadline = performance.now() + START_LIMIT_MS;
  while (wait.child.exitCode === null && performance.now() < deadline) {
    if (await answers(wait.url)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await stop(wait.child);
  throw new Error(`The server did not answer ${wait.url}. It said:\n${wait.output()}`);
}

/** Whether `url` answers 2xx. */
export async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const giveUp = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await exited;
  clearTimeout(giveUp);
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('No free port');
  return address.port;
}

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { call, PASSWORD, PROMOTE_SECRET, signStandard, WEBHOOK_SECRET } from '../harness.ts';
import type { Counter } from './shop.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** Sources are stripped of their types at every start, and a busy machine does other things too. */
const START_MS = 30_000;
/** Where Node keeps compiled code by default: the processes of a clean end fill it, and every start takes half the time. */
const COMPILE_CACHE = join(tmpdir(), 'node-compile-cache');
/** The program's own limit for a clean stop is 10 s. */
const STOP_MS = 15_000;

export const secrets = {
  SECRET_KEY: 'test-secret-key-of-more-than-thirty-two-bytes',
  CONFIG_ENCRYPTION_KEY: Buffer.alloc(32, 3).toString('base64'),
  PROMOTE_SECRET,
  PAYMENT_WEBHOOK_SECRET: WEBHOOK_SECRET,
} as const;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ServerProcessOptions {
  /** All that the process gets of the program's settings. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Put in front of the command: a wrapper that must `exec` it, so that the process stays the one that is killed. */
  readonly wrapper?: readonly string[];
  /** The file to run instead of the program itself. */
  readonly main?: string;
}

/** The program as an operator starts it, in a process of its own that a test may kill. */
export class ServerProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly exit: Promise<Exit>;
  stdout = '';
  stderr = '';

  constructor({ env, cwd, wrapper = [], main = MAIN }: ServerProcessOptions) {
    const [file = '', ...args] = [...wrapper, process.execPath, '--conditions=@vpn-api/source', main];
    this.#child = spawn(file, args, {
      cwd,
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: COMPILE_CACHE, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout?.on('data', (chunk) => {
      this.stdout += chunk;
    });
    this.#child.stderr?.on('data', (chunk) => {
      this.stderr += chunk;
    });
    this.exit = new Promise((done) => this.#child.once('close', (code, signal) => done({ code, signal })));
    // The last resort when the test runner itself is ended.
    const kill = () => void this.#child.kill('SIGKILL');
    process.once('exit', kill);
    void this.exit.then(() => process.off('exit', kill));
  }

  /** The address from the banner, once it is there. @throws Error with the output when the process ends first */
  async ready(): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const look = () => {
      const [, address] = /^\s+API\s+(http\S+)$/m.exec(this.stdout) ?? [];
      if (address !== undefined) resolve(address);
    };
    this.#child.stdout?.on('data', look);
    look();
    const ended = this.exit.then(({ code }) => Promise.reject(new Error(`ended with ${code}: ${this.output}`)));
    try {
      return await withDeadline(Promise.race([promise, ended]), START_MS, () => `no banner: ${this.output}`);
    } finally {
      this.#child.stdout?.off('data', look);
    }
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get output(): string {
    return `${this.stdout}${this.stderr}`;
  }

  /** Sends the signal and waits for the end. Sent at once: what the process does next, it does not do. */
  end(signal: NodeJS.Signals): Promise<Exit> {
    this.#child.kill(signal);
    return withDeadline(this.exit, STOP_MS, () => `still running after ${signal}: ${this.output}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hasEnded) await this.end('SIGKILL');
  }
}

async function withDeadline<T>(work: Promise<T>, ms: number, describe: () => string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(describe())), ms);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

/** A folder for the data of one test; gone with it. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'vpn-e2e-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Calls a server by its address, which changes when it is started again. */
export function counterAt(url: () => string): Counter {
  const rest: Counter['rest'] = (method, path, options) => call(`${url()}${path}`, method, options);
  return {
    rest,
    webhook: (event, options) => {
      const body = JSON.stringify(event);
      const headers = signStandard(body, { seconds: Math.floor(Date.now() / 1000), ...options });
      return rest('POST', '/payments/webhook/standard', { body, headers });
    },
  };
}

/** Registers an account and logs it in. */
export async function signUp({ rest }: Counter, email: string): Promise<{ id: number; token: string }> {
  const body = { email, password: PASSWORD };
  const { id } = (await rest<{ id: number }>('POST', '/auth/register', { body })).body;
  const { access_token } = (await rest<{ access_token: string }>('POST', '/auth/login', { body })).body;
  return { id, token: access_token };
}

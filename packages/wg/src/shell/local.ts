import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { DriverError, throwIfAborted } from '../driver.ts';
import { type CommandResult, STDERR_MAX_BYTES, STDOUT_MAX_BYTES, type Transport } from './transport.ts';

export interface LocalTransportOptions {
  readonly maxStdoutBytes?: number;
}

/** Runs commands with `/bin/sh` on this machine, as this user, in this network namespace. */
export class LocalTransport implements Transport {
  readonly #maxStdoutBytes: number;
  readonly #running = new Set<AbortController>();

  constructor(options: LocalTransportOptions = {}) {
    this.#maxStdoutBytes = options.maxStdoutBytes ?? STDOUT_MAX_BYTES;
  }

  async run(command: string, stdin: string, signal: AbortSignal): Promise<CommandResult> {
    throwIfAborted(signal);
    const own = new AbortController();
    this.#running.add(own);
    try {
      return await runChild(
        { command, stdin, maxStdoutBytes: this.#maxStdoutBytes },
        AbortSignal.any([signal, own.signal]),
      );
    } finally {
      this.#running.delete(own);
    }
  }

  /** Kills what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const own of this.#running) own.abort();
  }
}

interface ChildInput {
  readonly command: string;
  readonly stdin: string;
  readonly maxStdoutBytes: number;
}

function runChild({ command, stdin, maxStdoutBytes }: ChildInput, signal: AbortSignal): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  // Its own process group, so that a kill reaches the pipeline and not only the shell. The environment is not passed
  // on: it holds the caller's secrets.
  const child = spawn('/bin/sh', ['-c', command], { detached: true, env: childEnvironment() });
  let failure: DriverError | undefined;
  const fail = (error: DriverError) => {
    failure ??= error;
    killGroup(child);
  };
  const onAbort = () => fail(new DriverError('timeout', 'the command was aborted', { cause: signal.reason }));
  const stdout = collect(child.stdout, maxStdoutBytes, () =>
    fail(new DriverError('bad_answer', 'the command printed too much')),
  );
  const stderr = collect(child.stderr, STDERR_MAX_BYTES, () => {});
  signal.addEventListener('abort', onAbort, { once: true });
  // A command that does not read its stdin to the end is no error by itself: its exit code says what happened.
  child.stdin.on('error', () => {});
  child.on('error', (cause) => {
    signal.removeEventListener('abort', onAbort);
    reject(new DriverError('unreachable', 'the shell could not be started', { cause }));
  });
  child.on('close', (code) => {
    signal.removeEventListener('abort', onAbort);
    if (failure !== undefined) reject(failure);
    else resolve({ code, stdout: stdout(), stderr: stderr() });
  });
  child.stdin.end(stdin);
  return promise;
}

function childEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
}

function killGroup(child: ChildProcessWithoutNullStreams): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended in the meantime.
  }
}

function collect(stream: NodeJS.ReadableStream, maxBytes: number, onFull: () => void): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxBytes) chunks.push(chunk);
    else onFull();
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

import type { Socket } from 'node:net';
import type { ClientChannel, Client as SshClient } from 'ssh2';
import { DriverError } from '../driver.ts';
import type { SshSession } from './ssh-handshake.ts';
import { type CommandResult, STDERR_MAX_BYTES } from './transport.ts';

/** `not_started`: the connection was dead already. `no_channel`: the host lets no more commands in at a time. */
export type ConnectionAnswer = CommandResult | 'not_started' | 'no_channel';

/** A host that does not even confirm the end of a command within this has lost the connection. */
const CLOSE_GRACE_MS = 3_000;

/** One SSH connection that is ready, and the commands that run on it. */
export class SshConnection {
  readonly #client: SshClient;
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  #isAlive = true;

  /** Owns the session, whose client must have an `error` listener. */
  constructor({ client, socket }: SshSession) {
    this.#client = client;
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    const onEnd = () => {
      this.#isAlive = false;
      resolve();
    };
    client.on('error', onEnd).on('end', onEnd).on('close', onEnd);
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /**
   * Resolves whatever became of the command; its code is null when the connection died after it was sent.
   * @throws DriverError `timeout`, `bad_answer` or `refused`
   */
  run(command: string, stdin: string, maxStdoutBytes: number, signal: AbortSignal): Promise<ConnectionAnswer> {
    const running = new RunningCommand(maxStdoutBytes, signal, () => this.destroy());
    // ssh2 calls nobody back for some requests that were under way when the connection died.
    void this.#closed.then(() => running.connectionDied());
    try {
      this.#client.exec(command, (error, channel) => {
        if (error === undefined) running.start(channel, stdin);
        else running.notStarted(error);
      });
    } catch {
      this.#isAlive = false;
      running.finish('not_started');
    }
    return running.answer;
  }

  /** Says goodbye and waits for it to be heard, for a moment. */
  async end(): Promise<void> {
    this.#isAlive = false;
    this.#client.end();
    const timer = setTimeout(() => this.destroy(), CLOSE_GRACE_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  destroy(): void {
    this.#isAlive = false;
    this.#socket.destroy();
  }
}

class RunningCommand {
  readonly #outcome = Promise.withResolvers<ConnectionAnswer>();
  readonly #signal: AbortSignal;
  readonly #maxStdoutBytes: number;
  readonly #onDeaf: () => void;
  #channel: ClientChannel | undefined;
  #isDone = false;
  #deafTimer: NodeJS.Timeout | undefined;

  constructor(maxStdoutBytes: number, signal: AbortSignal, onDeaf: () => void) {
    this.#maxStdoutBytes = maxStdoutBytes;
    this.#signal = signal;
    this.#onDeaf = onDeaf;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  get answer(): Promise<ConnectionAnswer> {
    return this.#outcome.promise;
  }

  start(channel: ClientChannel, stdin: string): void {
    this.#channel = channel;
    let code: number | null = null;
    const stdout = collect(channel, this.#maxStdoutBytes, () =>
      this.#fail(new DriverError('bad_answer', 'the command printed too much')),
    );
    const stderr = collect(channel.stderr, STDERR_MAX_BYTES, () => {});
    // A command that does not read its stdin to the end is no error by itself: its exit code says what happened.
    channel.on('error', () => {});
    channel.stderr.on('error', () => {});
    channel.on('exit', (exitCode: unknown) => {
      code = typeof exitCode === 'number' ? exitCode : null;
    });
    channel.on('close', () => {
      clearTimeout(this.#deafTimer);
      this.finish({ code, stdout: stdout(), stderr: stderr() });
    });
    if (this.#isDone) channel.close();
    else channel.end(stdin);
  }

  notStarted(error: Error & { reason?: unknown }): void {
    if (this.#isDone) clearTimeout(this.#deafTimer);
    if (error.reason !== undefined) this.finish('no_channel');
    else if (error.message === 'No response from server') this.connectionDied();
    else this.#fail(new DriverError('refused', 'the host does not run the command', { cause: error }));
  }

  /** Nobody knows how far the command got. */
  connectionDied(): void {
    clearTimeout(this.#deafTimer);
    // The channel tells the exit code and the output it has got, if it is there.
    if (this.#channel === undefined) this.finish({ code: null, stdout: '', stderr: '' });
    else setImmediate(() => this.finish({ code: null, stdout: '', stderr: '' }));
  }

  finish(answer: ConnectionAnswer): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#outcome.resolve(answer);
  }

  #fail(error: DriverError): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#outcome.reject(error);
    this.#channel?.close();
    this.#deafTimer = setTimeout(this.#onDeaf, CLOSE_GRACE_MS);
    this.#deafTimer.unref();
  }

  readonly #onAbort = () =>
    this.#fail(new DriverError('timeout', 'the command was aborted', { cause: this.#signal.reason }));
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

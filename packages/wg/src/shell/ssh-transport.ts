import { isIP, type LookupFunction } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { DriverError, throwIfAborted } from '../driver.ts';
import type { OutboundGuard } from '../outbound.ts';
import { parseFingerprint } from './known-hosts.ts';
import { Slots } from './slots.ts';
import { SshConnection } from './ssh-connection.ts';
import { shakeHands, TurnedAway } from './ssh-handshake.ts';
import { type CommandResult, STDOUT_MAX_BYTES, type Transport } from './transport.ts';

export interface SshTransportOptions {
  /** Name or IP address. */
  readonly host: string;
  /** Default 22. */
  readonly port?: number | undefined;
  /** Its login shell must be a POSIX one, unless the key has a forced command. */
  readonly user: string;
  /** The text of a private key file: ed25519, ECDSA or RSA, OpenSSH or PEM. This or `agent` is needed. */
  readonly privateKey?: string | Buffer | undefined;
  /** Of an encrypted `privateKey`. */
  readonly passphrase?: string | undefined;
  /** The socket of an agent, as `SSH_AUTH_SOCK` names it. Never forwarded. */
  readonly agent?: string | undefined;
  /**
   * Host keys to accept, `SHA256:…` as `ssh-keygen -lf` prints them. A host that shows another key is refused, and the
   * error names the key it showed; so does an empty list, which is the way to learn a key.
   */
  readonly hostFingerprints: readonly string[];
  /** Which addresses may be connected to, when somebody else chose `host`. Default: all. */
  readonly outbound?: Pick<OutboundGuard, 'isAllowed' | 'lookup'> | undefined;
  /** Until a connection must be ready, per attempt. Default 10 s. */
  readonly readyTimeoutMs?: number | undefined;
  /** Between two signs of life; three unanswered ones end the connection. Default 15 s. */
  readonly keepaliveMs?: number | undefined;
  /** An unused connection is closed after this. Default 5 minutes: passes of a reconciler find it open. */
  readonly idleMs?: number | undefined;
  /** Commands at a time; the others wait. Default 8, since sshd lets 10 in. */
  readonly maxChannels?: number | undefined;
  readonly maxStdoutBytes?: number | undefined;
}

/** A host that starts many connections drops some of them (`MaxStartups`): that many tries, a little later each. */
const CONNECT_TRIES = 4;
const FIRST_RETRY_MS = 150;
/** After a failed connection the next is not tried before this, doubled with every failure. */
const FIRST_PAUSE_MS = 250;
/** Longer would delay the return of a host that is back. */
const LONGEST_PAUSE_MS = 10_000;

/**
 * Runs commands on a host over one SSH connection, which is opened when needed, kept while used, and opened again after
 * it died. A command whose connection died has no exit code: nobody knows how far it got.
 */
export class SshTransport implements Transport {
  readonly #options: SshTransportOptions;
  readonly #fingerprints: ReadonlySet<string>;
  readonly #slots: Slots;
  readonly #closing = new AbortController();
  #connection: SshConnection | undefined;
  #connecting: Promise<SshConnection> | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #failure: { readonly count: number; readonly until: number; readonly error: DriverError } | undefined;

  /** Connects to nothing yet. @throws TypeError for options that cannot be right */
  constructor(options: SshTransportOptions) {
    if (options.privateKey === undefined && options.agent === undefined) {
      throw new TypeError('a private key or an agent is needed');
    }
    if (options.host === '' || options.user === '') throw new TypeError('a host and a user are needed');
    this.#options = options;
    this.#fingerprints = new Set(options.hostFingerprints.map(parseFingerprint));
    this.#slots = new Slots(options.maxChannels ?? 8);
  }

  async run(command: string, stdin: string, signal: AbortSignal): Promise<CommandResult> {
    throwIfAborted(signal);
    const either = AbortSignal.any([signal, this.#closing.signal]);
    for (let dead = 0; dead < 2; ) {
      const release = await this.#slots.take(either);
      try {
        const answer = await this.#runOnce(command, stdin, either);
        if (typeof answer === 'object') return answer;
        if (answer === 'not_started') dead += 1;
        else if (this.#slots.taken > 1) this.#slots.lower(this.#slots.taken - 1);
        else throw new DriverError('refused', 'the host opens no channel for a command');
      } finally {
        release();
        this.#watchIdle();
      }
    }
    throw new DriverError('unreachable', 'the connection died before the command was sent');
  }

  /** Ends the connection; what still runs is aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#idleTimer);
    await this.#connecting?.catch(() => {});
    await this.#connection?.end();
  }

  async #runOnce(command: string, stdin: string, signal: AbortSignal) {
    clearTimeout(this.#idleTimer);
    const connection = await this.#connect(signal);
    throwIfAborted(signal);
    return connection.run(command, stdin, this.#options.maxStdoutBytes ?? STDOUT_MAX_BYTES, signal);
  }

  #watchIdle(): void {
    clearTimeout(this.#idleTimer);
    if (this.#slots.taken > 0 || this.#closing.signal.aborted) return;
    this.#idleTimer = setTimeout(() => void this.#connection?.end(), this.#options.idleMs ?? 300_000);
    this.#idleTimer.unref();
  }

  #connect(signal: AbortSignal): Promise<SshConnection> {
    if (this.#connection?.isAlive) return Promise.resolve(this.#connection);
    if (this.#connecting === undefined) {
      this.#connecting = this.#open().finally(() => {
        this.#connecting = undefined;
      });
      // Everybody who waits for it may have been aborted.
      this.#connecting.catch(() => {});
    }
    return unlessAborted(this.#connecting, signal);
  }

  async #open(): Promise<SshConnection> {
    // A host that does not answer, or that refuses us, is left alone for a while.
    if (this.#failure !== undefined && performance.now() < this.#failure.until) throw this.#failure.error;
    try {
      this.#connection = new SshConnection(await this.#tryOpen());
      this.#failure = undefined;
      return this.#connection;
    } catch (cause) {
      const error = cause instanceof DriverError ? cause : new DriverError('unreachable', 'no connection', { cause });
      const count = (this.#failure?.count ?? 0) + 1;
      const pause = Math.min(FIRST_PAUSE_MS * 2 ** (count - 1), LONGEST_PAUSE_MS);
      this.#failure = { count, until: performance.now() + pause, error };
      throw error;
    }
  }

  async #tryOpen() {
    const { host, port, user, privateKey, passphrase, agent, readyTimeoutMs, keepaliveMs } = this.#options;
    for (let tries = 1; ; tries += 1) {
      try {
        return await shakeHands({
          address: await this.#resolve(host),
          port: port ?? 22,
          user,
          privateKey,
          passphrase,
          agent,
          fingerprints: this.#fingerprints,
          readyTimeoutMs: readyTimeoutMs ?? 10_000,
          keepaliveMs: keepaliveMs ?? 15_000,
          signal: this.#closing.signal,
        });
      } catch (error) {
        if (!(error instanceof TurnedAway) || tries === CONNECT_TRIES) throw error;
        // Not all at the same moment again.
        const pause = FIRST_RETRY_MS * 2 ** tries * (0.5 + Math.random());
        await sleep(pause, undefined, { signal: this.#closing.signal });
      }
    }
  }

  /** The very address that is connected to is the one that was checked. */
  async #resolve(host: string): Promise<string> {
    const { outbound } = this.#options;
    if (outbound === undefined) return host;
    try {
      if (isIP(host) === 0) return await resolveOne(host, outbound.lookup);
      if (outbound.isAllowed(host)) return host;
    } catch (cause) {
      throw new DriverError('unreachable', 'the host has no address that may be connected to', { cause });
    }
    throw new DriverError('unreachable', 'the address of the host is private, local or reserved, and not on the list');
  }
}

function resolveOne(host: string, lookup: LookupFunction): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  lookup(host, { all: false }, (error, address) => {
    if (error !== null) reject(error);
    else resolve(typeof address === 'string' ? address : (address[0]?.address ?? ''));
  });
  return promise;
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const onAbort = () =>
    reject(new DriverError('timeout', 'aborted while connecting to the host', { cause: signal.reason }));
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  return promise;
}

import {
  type ChangeResult,
  DriverError,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  throwIfAborted,
  type WgDriver,
} from './driver.ts';
import { generateKeyPair, type PublicKey } from './keys.ts';
import { MemoryHost, type MemoryHostOptions } from './memory-host.ts';

/**
 * - `down`: no connection, nothing happens
 * - `refuse`: the host answers and does nothing
 * - `hang`: no answer until the signal is aborted, nothing happens
 * - `lose_answer`: the work is done, then the connection dies
 * - `drop_changes`: the host says "applied" and does nothing
 */
export type FakeFault = 'down' | 'refuse' | 'hang' | 'lose_answer' | 'drop_changes';

export interface FakeCall {
  readonly method: 'describe' | 'list' | 'apply';
  /** Of `apply`. */
  readonly changes: readonly PeerChange[];
}

export interface FakeHostOptions extends Partial<MemoryHostOptions> {
  readonly publicKey?: PublicKey;
  /** Every call takes so long. Needs `sleep`, since the fake has no clock. */
  readonly latencyMs?: number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * A WireGuard host for tests. The host outlives its drivers, as a real one does:
 *
 * ```ts
 * const host = new FakeHost();
 * host.fault = 'down';
 * await host.driver().list(signal);   // DriverError unreachable
 * ```
 */
export class FakeHost {
  readonly publicKey: PublicKey;
  readonly calls: FakeCall[] = [];
  /** Befalls every call until it is set to null. */
  fault: FakeFault | null = null;
  readonly #next: FakeFault[] = [];
  readonly #host: MemoryHost;
  readonly #options: FakeHostOptions;

  constructor(options: FakeHostOptions = {}) {
    this.#options = options;
    this.#host = new MemoryHost({ ...options, keys: options.keys ?? 'given', suspend: options.suspend ?? 'remove' });
    this.publicKey = options.publicKey ?? generateKeyPair().publicKey;
  }

  /** The next `calls` calls fail so, whatever `fault` says. */
  failNext(fault: FakeFault, calls = 1): void {
    for (let call = 0; call < calls; call += 1) this.#next.push(fault);
  }

  /** What is there, whatever the faults. */
  peers(): ObservedPeer[] {
    return this.#host.list();
  }

  /** Puts or changes a peer behind the driver's back: a foreign one, an edit by hand, a handshake. */
  put(peer: Partial<ObservedPeer> & Pick<ObservedPeer, 'publicKey'>): void {
    this.#host.put(peer);
  }

  delete(publicKey: PublicKey): void {
    this.#host.delete(publicKey);
  }

  addForeignPeer(allowedIps: readonly string[]): PublicKey {
    const { publicKey } = generateKeyPair();
    this.#host.put({ publicKey, allowedIps });
    return publicKey;
  }

  driver(): WgDriver {
    const call = <T>(
      method: FakeCall['method'],
      work: () => T,
      signal: AbortSignal,
      changes: readonly PeerChange[] = [],
    ) => this.#call({ method, changes }, work, signal);
    return {
      kind: 'fake',
      keys: this.#options.keys ?? 'given',
      suspend: this.#options.suspend ?? 'remove',
      describe: (signal) => call('describe', (): InterfaceDescription => ({ publicKey: this.publicKey }), signal),
      list: (signal) => call('list', () => this.#host.list(), signal),
      apply: (changes, signal) =>
        call('apply', (): ChangeResult[] => changes.map((change) => this.#host.change(change)), signal, changes),
      [Symbol.asyncDispose]: async () => {},
    };
  }

  async #call<T>(call: FakeCall, work: () => T, signal: AbortSignal): Promise<T> {
    throwIfAborted(signal);
    this.calls.push(call);
    const fault = this.#next.shift() ?? this.fault;
    if (this.#options.latencyMs !== undefined) await this.#options.sleep?.(this.#options.latencyMs, signal);
    if (fault === 'hang') return hang(signal);
    throwIfAborted(signal);
    if (fault === 'down') throw new DriverError('unreachable', 'the fake host is down');
    if (fault === 'refuse') throw new DriverError('refused', 'the fake host refuses');
    if (fault === 'drop_changes' && call.method === 'apply')
      return call.changes.map(() => ({ outcome: 'applied' })) as T;
    const answer = work();
    if (fault === 'lose_answer') throw new DriverError('unknown_outcome', 'the fake connection died after the work');
    return answer;
  }
}

function hang(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(new DriverError('timeout', 'the fake host did not answer', { cause: signal.reason }));
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return promise;
}

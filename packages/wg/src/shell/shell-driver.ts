import { type CheckedSet, checkGivenSet, isVisible } from '../check-change.ts';
import {
  type ChangeResult,
  DriverError,
  type DriverErrorCode,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  type RemovePeer,
  type SuspendPeer,
  throwIfAborted,
  type WgDriver,
} from '../driver.ts';
import { parsePublicKey } from '../keys.ts';
import { END_MARK, EXIT_TRUNCATED, type Privilege, type ShellCommands, shellCommands } from './commands.ts';
import { LocalTransport } from './local.ts';
import { parseDescription, parsePeerDump } from './parse-dump.ts';
import type { CommandResult, Transport } from './transport.ts';

export interface ShellDriverOptions {
  readonly kind: 'local' | 'ssh';
  /** Owned by the driver from now on: disposed with it. */
  readonly transport: Transport;
  /** The WireGuard interface, which must exist: `wg0`. */
  readonly interface: string;
  readonly privilege?: Privilege;
}

/**
 * Drives a WireGuard interface through the `wg` tool. The command strings are constant; keys and addresses are parsed,
 * printed again and sent by stdin, so they show up neither in a process list nor in a shell history.
 */
export class ShellDriver implements WgDriver {
  readonly kind: 'local' | 'ssh';
  readonly keys = 'given';
  readonly suspend = 'remove';
  readonly #transport: Transport;
  readonly #interface: string;
  readonly #commands: ShellCommands;

  constructor(options: ShellDriverOptions) {
    this.kind = options.kind;
    this.#transport = options.transport;
    this.#interface = options.interface;
    this.#commands = shellCommands(options.interface, options.privilege ?? 'direct');
  }

  async describe(signal: AbortSignal): Promise<InterfaceDescription> {
    return parseDescription(await this.#read(this.#commands.describe, signal));
  }

  async list(signal: AbortSignal): Promise<ObservedPeer[]> {
    return parsePeerDump(await this.#read(this.#commands.list, signal));
  }

  async apply(changes: readonly PeerChange[], signal: AbortSignal): Promise<ChangeResult[]> {
    throwIfAborted(signal);
    const batch = new Batch(changes);
    for (const step of batch.steps) {
      const result = await this.#runStep(step, batch, signal);
      if (result.code !== 0) {
        await this.#settleFailure(batch, result, signal);
        break;
      }
      for (const { index } of step.parts) batch.results[index] = { outcome: 'applied' };
    }
    return batch.results as ChangeResult[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]();
  }

  async #runStep(step: Step, batch: Batch, signal: AbortSignal): Promise<CommandResult> {
    const [command, stdin] =
      step.type === 'set'
        ? [this.#commands.set, printPeerSections(step.parts.map(({ change }) => change))]
        : [this.#commands.remove, printRemovals(step.parts.map(({ change }) => change))];
    try {
      return await this.#transport.run(command, stdin + END_MARK, signal);
    } catch (error) {
      throw applyError(error, batch.steps.indexOf(step) === 0);
    }
  }

  /** The truth about a batch that failed is on the host, not in the exit code or the text. */
  async #settleFailure(batch: Batch, result: CommandResult, signal: AbortSignal): Promise<void> {
    const observed = await this.list(signal).catch((cause: unknown) => {
      if (cause instanceof DriverError && cause.code === 'interface_missing') throw cause;
      throw new DriverError('unknown_outcome', 'a batch failed and the host could not be read afterwards', { cause });
    });
    const peers = new Map(observed.map((peer) => [peer.publicKey, peer]));
    for (const { index, change } of batch.steps.flatMap((step): readonly Part[] => step.parts)) {
      if (batch.results[index] !== undefined) continue;
      const seen = isVisible(change, peers.get(change.publicKey));
      batch.results[index] = seen ? { outcome: 'applied' } : batchFailure(result);
    }
  }

  async #read(command: string, signal: AbortSignal): Promise<string> {
    const result = await this.#transport.run(command, '', signal);
    if (result.code === 0) return result.stdout;
    if (result.code === null) throw new DriverError('unreachable', 'the connection was lost while reading');
    throw await this.#explain(result.code, signal);
  }

  /** Why a read failed. The texts of `wg` differ by kernel and version, so the list of interfaces is asked instead. */
  async #explain(code: number, signal: AbortSignal): Promise<DriverError> {
    if (code === 126 || code === 127)
      return new DriverError('refused', 'the wg tool is not installed or not executable');
    const { code: answered, stdout } = await this.#transport.run(this.#commands.interfaces, '', signal);
    if (answered === 0 && !stdout.split(/\s+/).includes(this.#interface)) {
      return new DriverError('interface_missing', `no WireGuard interface ${this.#interface}`);
    }
    return new DriverError('refused', `wg failed with exit code ${code}`);
  }
}

/** A driver for an interface of this machine. It must run as root, in the network namespace of the interface. */
export function openLocalDriver(options: { readonly interface: string; readonly privilege?: Privilege }): ShellDriver {
  return new ShellDriver({ kind: 'local', transport: new LocalTransport(), ...options });
}

type Leaving = RemovePeer | SuspendPeer;
type Part = { readonly index: number; readonly change: CheckedSet | Leaving };
type Step =
  | { readonly type: 'set'; readonly parts: { readonly index: number; readonly change: CheckedSet }[] }
  | { readonly type: 'leave'; readonly parts: { readonly index: number; readonly change: Leaving }[] };

/** Changes as few commands as their order allows; a change with a value that cannot be sent fails by itself. */
class Batch {
  readonly steps: Step[] = [];
  readonly results: (ChangeResult | undefined)[];

  constructor(changes: readonly PeerChange[]) {
    this.results = new Array<ChangeResult | undefined>(changes.length).fill(undefined);
    changes.forEach((change, index) => {
      try {
        this.#add(change, index);
      } catch (error) {
        this.results[index] = { outcome: 'failed', message: error instanceof Error ? error.message : 'bad change' };
      }
    });
  }

  #add(change: PeerChange, index: number): void {
    const last = this.steps.at(-1);
    if (change.type === 'set') {
      const part = { index, change: checkGivenSet(change) };
      if (last?.type === 'set') last.parts.push(part);
      else this.steps.push({ type: 'set', parts: [part] });
      return;
    }
    const part = { index, change: { ...change, publicKey: parsePublicKey(change.publicKey) } };
    if (last?.type === 'leave') last.parts.push(part);
    else this.steps.push({ type: 'leave', parts: [part] });
  }
}

/** To WireGuard an all-zero preshared key is none. Leaving the line out would keep the old one. */
const NO_PRESHARED_KEY = `${'A'.repeat(43)}=`;

function printPeerSections(changes: readonly CheckedSet[]): string {
  return changes
    .map(
      ({ publicKey, presharedKey, addresses }) =>
        `[Peer]\nPublicKey = ${publicKey}\nPresharedKey = ${presharedKey ?? NO_PRESHARED_KEY}\nAllowedIPs = ${addresses.join(', ')}\n`,
    )
    .join('');
}

function printRemovals(changes: readonly Leaving[]): string {
  return changes.map(({ publicKey }) => `peer\n${publicKey}\nremove\n`).join('');
}

function batchFailure({ code }: CommandResult): ChangeResult {
  if (code === null) return { outcome: 'unknown', message: 'the connection was lost before the host answered' };
  const message = code === EXIT_TRUNCATED ? 'the host received half of the batch' : `wg failed with exit code ${code}`;
  return { outcome: 'failed', message };
}

const NOT_STARTED: ReadonlySet<DriverErrorCode> = new Set(['unreachable', 'auth_failed', 'refused']);

/** Once one step was made, "nothing was changed" is no longer true for the whole. */
function applyError(error: unknown, isFirstStep: boolean): DriverError {
  if (!(error instanceof DriverError))
    return new DriverError('unknown_outcome', 'the transport failed', { cause: error });
  if (isFirstStep || !NOT_STARTED.has(error.code)) return error;
  return new DriverError('unknown_outcome', 'the host was lost between two steps', { cause: error });
}

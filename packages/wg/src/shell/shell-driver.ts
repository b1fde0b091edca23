import { type CheckedSet, checkGivenSet, checkKeylessSet, isVisible, type KeylessSet } from '../check-change.ts';
import {
  type ChangeResult,
  DriverError,
  type DriverErrorCode,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  type RemovePeer,
  type ReportedPeer,
  type SetPeer,
  type SuspendPeer,
  throwIfAborted,
  type WgDriver,
} from '../driver.ts';
import { type PublicKey, parsePublicKey } from '../keys.ts';
import {
  END_MARK,
  EXIT_TRUNCATED,
  type HostScripts,
  NO_PSK_WORD,
  type Privilege,
  type ShellCommands,
  shellCommands,
} from './commands.ts';
import { checkKeyName, type GeneratedPair, parseGenerated } from './generated-keys.ts';
import { LocalTransport } from './local.ts';
import { parseDescription, parsePeerDump } from './parse-dump.ts';
import type { CommandResult, Transport } from './transport.ts';

export interface ShellHostOptions {
  /** The WireGuard interface, which must exist: `wg0`. */
  readonly interface: string;
  readonly privilege?: Privilege | undefined;
  /** The operator's own scripts in place of `wg`. Not with the kit. */
  readonly scripts?: HostScripts | undefined;
  /** Who makes the keys. `reported` needs `scripts.generate` or the kit. Default: `reported` with `scripts.generate`. */
  readonly keys?: WgDriver['keys'] | undefined;
  /** Where `scripts.generate` keeps its key pairs. Default `/etc/wg-keys`. */
  readonly keyDirectory?: string | undefined;
}

export interface ShellDriverOptions extends ShellHostOptions {
  readonly kind: 'local' | 'ssh';
  /** Owned by the driver from now on: disposed with it. */
  readonly transport: Transport;
}

/**
 * Drives a WireGuard interface through the `wg` tool, the host kit or an operator's scripts. The command strings are
 * constant; keys and addresses are parsed, printed again and sent by stdin, so they show up neither in a process list
 * nor in a shell history. (An operator's scripts get public keys and addresses as arguments, since that is how they are
 * called.)
 *
 * With `reported` keys the host makes a pair under the name of the tag when a `set` has no key. A pair whose peer is on
 * the interface is told again instead, so an answer that was lost is not a lost key; a pair that never got there is made
 * again. Where the account may not read the files of an operator's script, the lost peer stays on the interface, foreign
 * to everybody, until somebody removes it. Addresses are always the caller's.
 */
export class ShellDriver implements WgDriver {
  readonly kind: 'local' | 'ssh';
  readonly keys: WgDriver['keys'];
  readonly suspend = 'remove';
  readonly #transport: Transport;
  readonly #interface: string;
  readonly #commands: ShellCommands;
  readonly #scripts: HostScripts;

  /** @throws TypeError for an interface, a path or a combination that cannot be */
  constructor(options: ShellDriverOptions) {
    const { scripts = {}, keyDirectory } = options;
    this.kind = options.kind;
    this.#transport = options.transport;
    this.#interface = options.interface;
    this.#scripts = scripts;
    this.#commands = shellCommands(options.interface, options.privilege ?? 'direct', { scripts, keyDirectory });
    this.keys = options.keys ?? (scripts.generate === undefined ? 'given' : 'reported');
    if (this.keys === 'reported' && this.#commands.generate === undefined) {
      throw new TypeError('keys can only be made on a host with a script that makes them, or with the host kit');
    }
  }

  async describe(signal: AbortSignal): Promise<InterfaceDescription> {
    return parseDescription(await this.#read(this.#commands.describe, signal));
  }

  async list(signal: AbortSignal): Promise<ObservedPeer[]> {
    return parsePeerDump(await this.#read(this.#commands.list, signal));
  }

  async apply(changes: readonly PeerChange[], signal: AbortSignal): Promise<ChangeResult[]> {
    throwIfAborted(signal);
    const batch = new Batch(changes, this.keys === 'reported');
    for (const step of batch.steps) {
      const result = await this.#runStep(step, batch, signal);
      if (result !== null) {
        await this.#settleFailure(batch, result, signal);
        break;
      }
      for (const { index } of step.parts) batch.applied(index);
    }
    return batch.results as ChangeResult[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]();
  }

  /** null when everything was done, otherwise the result of the command that failed. */
  async #runStep(step: Step, batch: Batch, signal: AbortSignal): Promise<CommandResult | null> {
    if (step.type === 'leave') {
      return this.#remove(
        step.parts.map(({ change }) => change),
        batch,
        signal,
      );
    }
    await this.#makeKeys(step, batch, signal);
    const sets = step.parts.map(({ change }) => change).filter(isKeyed);
    if (this.#scripts.apply !== undefined) return this.#setByScript(sets, batch, signal);
    return sets.length === 0 ? null : this.#mutate(this.#commands.set, printPeerSections(sets), batch, signal);
  }

  async #remove(changes: readonly Leaving[], batch: Batch, signal: AbortSignal): Promise<CommandResult | null> {
    const print = this.#scripts.remove === undefined ? printRemovals : printKeys;
    return this.#mutate(this.#commands.remove, print(changes), batch, signal);
  }

  /** A script only adds what is not there: a peer with other values has to go first. */
  async #setByScript(sets: readonly CheckedSet[], batch: Batch, signal: AbortSignal): Promise<CommandResult | null> {
    const peers = byKey(await this.list(signal).catch((error: unknown) => Promise.reject(batch.errorOf(error))));
    const wrong = sets.filter((set) => !isVisible(set, peers.get(set.publicKey)));
    const stale = wrong.filter(({ publicKey }) => peers.has(publicKey));
    if (stale.length > 0) {
      const leaving = stale.map(({ publicKey, tag }) => ({ type: 'remove' as const, publicKey, tag }));
      const failed = await this.#remove(leaving, batch, signal);
      if (failed !== null) return failed;
    }
    return wrong.length === 0 ? null : this.#mutate(this.#commands.set, printScriptLines(wrong), batch, signal);
  }

  /** Gives every set without a key the pair that the host made, or a result that says why it has none. */
  async #makeKeys(step: SetStep, batch: Batch, signal: AbortSignal): Promise<void> {
    const names = step.parts.flatMap(({ change }) => (isKeyed(change) ? [] : [checkKeyName(change.tag)]));
    const command = this.#commands.generate;
    if (names.length === 0 || command === undefined) return;
    const stdin = `${[...new Set(names)].join('\n')}\n${END_MARK}`;
    const result = await this.#transport
      .run(command, stdin, signal)
      .catch((error: unknown) => Promise.reject(batch.errorOf(error)));
    const pairs = result.code === 0 ? parseGenerated(result.stdout) : new Map<string, GeneratedPair>();
    step.parts = step.parts.filter((part) => {
      if (isKeyed(part.change)) return true;
      const pair = pairs.get(part.change.tag);
      if (pair === undefined) batch.results[part.index] = { outcome: 'failed', message: 'the host made no usable key' };
      else {
        batch.reports.set(part.index, reportOf(part.change, pair));
        part.change = { ...part.change, publicKey: pair.publicKey };
      }
      return pair !== undefined;
    });
  }

  async #mutate(command: string, stdin: string, batch: Batch, signal: AbortSignal): Promise<CommandResult | null> {
    try {
      const result = await this.#transport.run(command, stdin + END_MARK, signal);
      batch.isTouched = true;
      return result.code === 0 ? null : result;
    } catch (error) {
      throw batch.errorOf(error);
    }
  }

  /** The truth about a batch that failed is on the host, not in the exit code or the text. */
  async #settleFailure(batch: Batch, result: CommandResult, signal: AbortSignal): Promise<void> {
    const observed = await this.list(signal).catch((cause: unknown) => {
      if (cause instanceof DriverError && cause.code === 'interface_missing') throw cause;
      throw new DriverError('unknown_outcome', 'a batch failed and the host could not be read afterwards', { cause });
    });
    const peers = byKey(observed);
    for (const { index, change } of batch.steps.flatMap((step): readonly Part[] => step.parts)) {
      if (batch.results[index] !== undefined) continue;
      const isDone = change.publicKey !== null && isVisible(change, peers.get(change.publicKey));
      if (isDone) batch.applied(index);
      else batch.results[index] = batchFailure(result);
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
    return new DriverError('refused', explainExit(code));
  }
}

/** A driver for an interface of this machine. It must run as root, in the network namespace of the interface. */
export function openLocalDriver(options: ShellHostOptions): ShellDriver {
  return new ShellDriver({ kind: 'local', transport: new LocalTransport(), ...options });
}

type Leaving = RemovePeer | SuspendPeer;
interface SetPart {
  readonly index: number;
  /** Gets its key when the host has made it. */
  change: CheckedSet | KeylessSet;
}
interface LeavingPart {
  readonly index: number;
  readonly change: Leaving;
}
type Part = SetPart | LeavingPart;
interface SetStep {
  readonly type: 'set';
  parts: SetPart[];
}
type Step = SetStep | { readonly type: 'leave'; readonly parts: LeavingPart[] };

/** Changes as few commands as their order allows; a change with a value that cannot be sent fails by itself. */
class Batch {
  readonly steps: Step[] = [];
  readonly results: (ChangeResult | undefined)[];
  readonly reports = new Map<number, ReportedPeer>();
  /** Whether the host may be another one than before. */
  isTouched = false;
  readonly #makesKeys: boolean;

  constructor(changes: readonly PeerChange[], makesKeys: boolean) {
    this.#makesKeys = makesKeys;
    this.results = new Array<ChangeResult | undefined>(changes.length).fill(undefined);
    changes.forEach((change, index) => {
      try {
        this.#add(change, index);
      } catch (error) {
        this.results[index] = { outcome: 'failed', message: error instanceof Error ? error.message : 'bad change' };
      }
    });
  }

  applied(index: number): void {
    const reported = this.reports.get(index);
    this.results[index] = { outcome: 'applied', ...(reported && { reported }) };
  }

  /** Once one command was run, "nothing was changed" is no longer true for the whole. */
  errorOf(error: unknown): DriverError {
    if (!(error instanceof DriverError)) {
      return new DriverError('unknown_outcome', 'the transport failed', { cause: error });
    }
    if (!this.isTouched || !NOT_STARTED.has(error.code)) return error;
    return new DriverError('unknown_outcome', 'the host was lost between two steps', { cause: error });
  }

  #add(change: PeerChange, index: number): void {
    const last = this.steps.at(-1);
    if (change.type === 'set') {
      const part = { index, change: this.#checkSet(change) };
      if (last?.type === 'set') last.parts.push(part);
      else this.steps.push({ type: 'set', parts: [part] });
      return;
    }
    const part = { index, change: { ...change, publicKey: parsePublicKey(change.publicKey) } };
    if (last?.type === 'leave') last.parts.push(part);
    else this.steps.push({ type: 'leave', parts: [part] });
  }

  #checkSet(change: SetPeer): CheckedSet | KeylessSet {
    if (change.publicKey !== null || !this.#makesKeys) return checkGivenSet(change);
    checkKeyName(change.tag);
    return checkKeylessSet(change);
  }
}

function isKeyed(change: CheckedSet | KeylessSet): change is CheckedSet {
  return change.publicKey !== null;
}

function reportOf({ presharedKey, addresses }: KeylessSet, pair: GeneratedPair): ReportedPeer {
  return { ...pair, presharedKey, addresses, config: null };
}

function byKey(peers: readonly ObservedPeer[]): ReadonlyMap<PublicKey, ObservedPeer> {
  return new Map(peers.map((peer) => [peer.publicKey, peer]));
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

/** `KEY ALLOWED_IPS PSK`, what the loop around an operator's script reads. */
function printScriptLines(changes: readonly CheckedSet[]): string {
  return changes
    .map(({ publicKey, presharedKey, addresses }) => [publicKey, addresses.join(','), presharedKey ?? NO_PSK_WORD])
    .map((words) => `${words.join(' ')}\n`)
    .join('');
}

function printKeys(changes: readonly Leaving[]): string {
  return changes.map(({ publicKey }) => `${publicKey}\n`).join('');
}

function batchFailure({ code }: CommandResult): ChangeResult {
  if (code === null) return { outcome: 'unknown', message: 'the connection was lost before the host answered' };
  return { outcome: 'failed', message: explainExit(code) };
}

/** What the exit codes of the host kit mean; `wg` itself and a shell have none of them. */
const KIT_EXITS: ReadonlyMap<number, string> = new Map([
  [EXIT_TRUNCATED, 'the host received half of the batch'],
  [66, 'the host has no such interface'],
  [73, 'another peer on the host has an address of the batch'],
  [75, 'somebody else is changing the interface'],
  [76, 'the host kit refuses a value of the batch'],
  [77, 'the host kit may not touch this interface'],
]);

function explainExit(code: number): string {
  return KIT_EXITS.get(code) ?? `wg failed with exit code ${code}`;
}

const NOT_STARTED: ReadonlySet<DriverErrorCode> = new Set(['unreachable', 'auth_failed', 'refused']);

import { AddressError } from '../address.ts';
import { ClientConfigError } from '../client-config.ts';
import { type ChangeResult, DriverError, type DriverErrorCode, type PeerChange, type SetPeer } from '../driver.ts';
import type { PublicKey } from '../keys.ts';
import { checkReportedChange } from './check-change.ts';
import type { Connection } from './connection.ts';
import { findNamed, HostView, hasWantedAddresses, isVisible, wantedAddresses } from './host-view.ts';
import type { RemoteClient, WgEasyProtocol } from './protocol.ts';
import { readReport } from './read-report.ts';

export interface BatchContext {
  readonly connection: Connection;
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
}

/** Nothing was sent, and what is in the way may be leaving in this very batch. */
class InTheWayError extends DriverError {
  constructor(message: string) {
    super('refused', message);
  }
}

/** One change on its way. */
interface Task {
  readonly change: PeerChange;
  tries: number;
  /** What the last try ran into. */
  error: DriverError | undefined;
  /** The client it was last made on: deleting is repeated for one that is no longer listed. */
  client: RemoteClient | undefined;
  isDone: boolean;
  result: ChangeResult | undefined;
}

/** After so many changes the list is read and what came true is final, should the rest fail. */
const WAVE_SIZE = 100;
/** A change that was made and is not visible is made again, so often in all. */
const MAX_TRIES = 3;
/** Rounds of one wave. More than the tries, since a round ends early when the host stops answering. */
const MAX_ROUNDS = 8;
/** After so many rounds that ended so, and brought nothing, the rest waits for another day. */
const MAX_STOPS = 3;
/** So many failures one after another are not about single changes. */
const MAX_FAILURES_IN_A_ROW = 5;
/** Configurations are only read: that is safe beside each other and beside changes. */
const PARALLEL_READS = 6;

const STOPPING: ReadonlySet<DriverErrorCode> = new Set(['timeout', 'unreachable', 'auth_failed']);

/**
 * Makes changes on a wg-easy, one after another, and believes the list instead of the answers: a 500 may have been done, a
 * 200 may not, and an answer may be lost. Whatever is not visible is tried again, and a client is looked for by its name
 * before it is made a second time.
 */
export class Batch {
  readonly #context: BatchContext;
  readonly #tasks: readonly Task[];
  /** Keys that are to go: nobody adopts them, though they may still be there. */
  readonly #leaving = new Set<PublicKey>();
  #view = new HostView([]);
  #protocol: WgEasyProtocol | undefined;
  #wasSent = false;
  #stops = 0;
  #reports: Promise<void> = Promise.resolve();
  #readsStopped: DriverError | undefined;

  constructor(changes: readonly PeerChange[], context: BatchContext) {
    this.#context = context;
    this.#tasks = changes.map(newTask);
  }

  /** @throws DriverError when nothing came true */
  async run(): Promise<ChangeResult[]> {
    try {
      const waves = splitWaves(this.#tasks.filter(({ result }) => result === undefined));
      if (waves.length > 0) await this.#list();
      for (const wave of waves) await this.#runWave(wave);
      await this.#reports;
    } catch (error) {
      if (!(error instanceof DriverError)) throw error;
      await this.#reports;
      this.#giveUp(error);
    }
    return this.#tasks.map(({ result }) => result ?? NOT_REACHED);
  }

  async #runWave(wave: readonly Task[]): Promise<void> {
    for (const { change } of wave) if (change.type === 'remove') this.#leaving.add(change.publicKey);
    this.#settle(wave, { isFinal: false });
    for (let round = 0; round < MAX_ROUNDS && wave.some(mayTry); round += 1) {
      const open = wave.filter(mayTry);
      await this.#confirmAbsence(open);
      const stopped = await this.#changeAll(open);
      await this.#readBack();
      this.#settle(wave, { isFinal: false });
      this.#countStop(stopped, open);
    }
    // No more tries: what the list says is as good as it gets.
    this.#settle(wave, { isFinal: true });
    for (const task of wave) if (!task.isDone) task.result = failure(task);
    this.#report(wave);
  }

  async #list(): Promise<void> {
    const { connection, signal } = this.#context;
    const { protocol, clients } = await connection.list(signal);
    this.#protocol = protocol;
    this.#view = new HostView(clients);
  }

  /** A client that nobody deleted and that is gone is more likely a wrong answer, and acting on it costs somebody a key. */
  async #readBack(): Promise<void> {
    const before = this.#view;
    await this.#list();
    if (before.all().some((client) => !this.#view.has(client))) await this.#list();
  }

  /** A client that was there once, or whose making may have worked, is only made after two lists without it. */
  async #confirmAbsence(tasks: readonly Task[]): Promise<void> {
    const isDoubtful = tasks.some(
      ({ change, tries }) =>
        change.type === 'set' &&
        (change.publicKey !== null || tries > 0) &&
        findNamed(this.#view, change, this.#leaving).keeper === undefined,
    );
    if (isDoubtful) await this.#list();
  }

  /** While there are tries left, a change that ran into an error is made again although the list shows it. */
  #settle(wave: readonly Task[], { isFinal }: { readonly isFinal: boolean }): void {
    for (const task of wave) {
      if (task.isDone || (task.error !== undefined && !isFinal)) continue;
      task.isDone = isVisible(this.#view, task.change, { leaving: this.#leaving, live: !isFinal });
      if (task.isDone && task.change.type !== 'set') task.result = { outcome: 'applied' };
    }
  }

  /** Lists that are answered and changes that are not: there is no point in trying them all. */
  #countStop(stopped: DriverError | undefined, tried: readonly Task[]): void {
    this.#stops = stopped === undefined || tried.some(({ isDone }) => isDone) ? 0 : this.#stops + 1;
    if (stopped !== undefined && this.#stops >= MAX_STOPS) throw stopped;
  }

  /** Answers what the host stopped answering with, if it did. */
  async #changeAll(tasks: readonly Task[]): Promise<DriverError | undefined> {
    let failuresInARow = 0;
    for (const task of tasks) {
      task.tries += 1;
      try {
        await this.#change(task);
        task.error = undefined;
        failuresInARow = 0;
      } catch (error) {
        if (!(error instanceof DriverError)) throw error;
        task.error = error;
        failuresInARow += 1;
        if (STOPPING.has(error.code)) return error;
        if (failuresInARow >= MAX_FAILURES_IN_A_ROW) return undefined;
      }
    }
    return undefined;
  }

  #change(task: Task): Promise<void> {
    return task.change.type === 'set' ? this.#set(task, task.change) : this.#leave(task, task.change);
  }

  async #leave(task: Task, { type, publicKey }: Exclude<PeerChange, SetPeer>): Promise<void> {
    const client = this.#view.byKey(publicKey) ?? task.client;
    if (client === undefined) return;
    task.client = client;
    if (type === 'remove') return this.#remove(client);
    await this.#send((protocol, signal) => protocol.disable(client, signal));
    this.#view.put({ ...client, enabled: false, isLive: false });
  }

  async #set(task: Task, wish: SetPeer): Promise<void> {
    const { keeper, twins } = findNamed(this.#view, wish, this.#leaving);
    for (const twin of twins) {
      this.#context.log('a second client of the same name is deleted');
      await this.#remove(twin);
    }
    if (keeper === undefined) return this.#create(wish);
    const placed = await this.#place(keeper, wish);
    // A sync that failed is made good by any other: enabling what is enabled is the smallest.
    if (placed.enabled && placed.isLive && task.error === undefined) return;
    await this.#send((protocol, signal) => protocol.enable(placed, signal));
    this.#view.put({ ...placed, enabled: true, isLive: true });
  }

  /** Names are unique only because they are made so here. Its addresses are seen, and changed, after the next list. */
  async #create(wish: SetPeer): Promise<void> {
    if (this.#view.all().some(({ name }) => name === wish.tag)) {
      throw new InTheWayError('an earlier client of this name is still there');
    }
    this.#checkAddresses(wish.addresses, undefined);
    await this.#send((protocol, signal) => protocol.create(wish.tag, signal));
  }

  async #place(client: RemoteClient, wish: SetPeer): Promise<RemoteClient> {
    if (hasWantedAddresses(wish, client)) return client;
    const addresses = wantedAddresses(wish, client);
    this.#checkAddresses(addresses, client);
    await this.#send((protocol, signal) => protocol.setAddresses(client, addresses, signal));
    const placed = { ...client, addresses, extraAddresses: [] };
    this.#view.put(placed);
    return placed;
  }

  /** v14 gives an address to two clients without a word. */
  #checkAddresses(addresses: readonly string[], client: RemoteClient | undefined): void {
    if (this.#view.holderOf(addresses, client) === undefined) return;
    throw new InTheWayError('another client has the address');
  }

  async #remove(client: RemoteClient): Promise<void> {
    await this.#send((protocol, signal) => protocol.remove(client, signal));
    this.#view.delete(client);
  }

  async #send(mutation: (protocol: WgEasyProtocol, signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal } = this.#context;
    const protocol = this.#protocol as WgEasyProtocol;
    if (!signal.aborted) this.#wasSent = true;
    await mutation(protocol, signal);
  }

  /** Reads what the host made, for every set of the wave that came true, while the next wave is being made. */
  #report(wave: readonly Task[]): void {
    const made = wave.flatMap((task) => {
      const client = task.isDone && task.result === undefined ? this.#keeperOf(task) : undefined;
      return client === undefined ? [] : [{ task, client }];
    });
    const before = this.#reports;
    this.#reports = this.#readReports(made).then(() => before);
    // Whoever waits for all of them hears of it.
    this.#reports.catch(() => {});
  }

  async #readReports(made: readonly Made[]): Promise<void> {
    const waiting = [...made];
    const work = async () => {
      for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
        const error = this.#readsStopped ?? (await this.#readReport(one));
        if (error !== undefined) one.task.result = unreported(one, error);
        if (error instanceof DriverError && STOPPING.has(error.code)) this.#readsStopped = error;
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_READS }, work));
  }

  async #readReport({ task, client }: Made): Promise<ReportError | undefined> {
    try {
      const protocol = this.#protocol as WgEasyProtocol;
      const config = await protocol.configuration(client, this.#context.signal);
      task.result = { outcome: 'applied', reported: readReport(client, config) };
      return undefined;
    } catch (error) {
      if (isReportError(error)) return error;
      throw error;
    }
  }

  #keeperOf({ change }: Task): RemoteClient | undefined {
    return change.type === 'set' ? findNamed(this.#view, change, this.#leaving).keeper : undefined;
  }

  /** The host was lost on the way. What is known to be done stays done; when nothing is, the error is the answer. */
  #giveUp(error: DriverError): void {
    if (!this.#tasks.some(({ result }) => result?.outcome === 'applied')) throw this.#wasSent ? doubtful(error) : error;
    this.#context.log(`the host was lost half-way: ${error.message}`);
    for (const task of this.#tasks) {
      const { tries, result } = task;
      task.result = result ?? { outcome: tries > 0 ? 'unknown' : 'failed', message: error.message, hostLost: true };
    }
  }
}

const NOT_REACHED: ChangeResult = { outcome: 'failed', message: 'the host did not get that far' };

function newTask(change: PeerChange): Task {
  const task = { tries: 0, error: undefined, client: undefined, isDone: false };
  try {
    return { ...task, change: checkReportedChange(change), result: undefined };
  } catch (error) {
    const message = error instanceof Error ? error.message : 'bad change';
    return { ...task, change, result: { outcome: 'failed', message } };
  }
}

interface Made {
  readonly task: Task;
  readonly client: RemoteClient;
}

type ReportError = DriverError | ClientConfigError | AddressError;

function isReportError(error: unknown): error is ReportError {
  return error instanceof DriverError || error instanceof ClientConfigError || error instanceof AddressError;
}

/** Without its configuration a client is of use only to somebody who has it already. */
function unreported({ task, client }: Made, error: ReportError): ChangeResult {
  if (task.change.publicKey === client.publicKey) return { outcome: 'applied' };
  if (error instanceof DriverError) return { outcome: 'unknown', message: error.message };
  return { outcome: 'failed', message: `the configuration that wg-easy writes cannot be used: ${error.message}` };
}

function mayTry({ isDone, tries, error }: Task): boolean {
  return !isDone && tries < MAX_TRIES && (error?.code !== 'refused' || error instanceof InTheWayError);
}

function failure({ error, tries }: Task): ChangeResult {
  if (tries === 0) return NOT_REACHED;
  if (error === undefined)
    return { outcome: 'failed', message: 'wg-easy said it was done, and its list does not show it' };
  return { outcome: error.outcomeUnknown ? 'unknown' : 'failed', message: error.message };
}

/** Once something was sent, "nothing was changed" is no longer true for the whole. */
function doubtful(error: DriverError): DriverError {
  if (error.outcomeUnknown) return error;
  return new DriverError('unknown_outcome', `the host was lost between two changes: ${error.message}`, {
    cause: error,
  });
}

/**
 * Cuts changes so that those in one wave are about different peers and first all leave, then all are set: within a wave
 * they are judged by one list, which cannot show the states in between.
 */
function splitWaves(tasks: readonly Task[]): Task[][] {
  const waves: Task[][] = [];
  let subjects = new Set<string>();
  for (const task of tasks) {
    const wave = waves.at(-1);
    const about = subjectsOf(task.change);
    const isLeaveAfterSet = task.change.type !== 'set' && wave?.at(-1)?.change.type === 'set';
    const isFull = wave === undefined || wave.length >= WAVE_SIZE || isLeaveAfterSet;
    if (isFull || about.some((subject) => subjects.has(subject))) {
      waves.push([task]);
      subjects = new Set(about);
    } else {
      wave.push(task);
      for (const subject of about) subjects.add(subject);
    }
  }
  return waves;
}

function subjectsOf({ publicKey, tag }: PeerChange): string[] {
  return [publicKey === null ? [] : `key ${publicKey}`, tag === null ? [] : `tag ${tag}`].flat();
}

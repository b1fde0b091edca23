import { listServers, releaseAllLeases, type ServerRow } from '@vpn-api/db';
import { BACKOFF_CAP_SECONDS } from '../domain/backoff.ts';
import { addSeconds, type Instant, minInstant, secondsBetween } from '../domain/instant.ts';
import { MAX_SERVERS } from '../domain/server.ts';
import { type Pass, type ReconcileDeps, reconcileServer } from '../ops/reconcile-server.ts';
import type { HostWaker, Services, Waker } from '../services.ts';
import { Loop } from './loop.ts';

export type ReconcileLoopsDeps = ReconcileDeps & Pick<Services, 'config'>;

/** After an error that is not the host's: our database, or a bug. */
const ERROR_RETRY_SECONDS = 5;

/**
 * Keeps every host as the rows want it: one loop a server, so that a slow host delays no other, and one that finds new
 * servers. Woken by commits; on its own it compares every `RECONCILE_INTERVAL_SECONDS`, and sooner when time alone changes
 * a peer or a host has to be tried again.
 */
export class ReconcileLoops implements HostWaker, AsyncDisposable {
  readonly #deps: ReconcileLoopsDeps;
  readonly #finder: Loop;
  readonly #servers = new Map<number, ServerLoop>();
  #isStarted = false;

  constructor(deps: ReconcileLoopsDeps) {
    this.#deps = deps;
    this.#finder = new Loop({
      clock: deps.clock,
      run: async () => {
        await this.#findServers();
        return addSeconds(deps.clock.now(), deps.config.reconcileIntervalSeconds);
      },
      onError: (error) => {
        deps.log.error({ err: error }, 'the list of servers could not be read');
        return addSeconds(deps.clock.now(), ERROR_RETRY_SECONDS);
      },
    });
  }

  /** Makes a loop for every server there is and wakes it. */
  async start(): Promise<void> {
    const { config, store } = this.#deps;
    if (config.database.engine === 'sqlite') await releaseAllLeases(store);
    this.#isStarted = true;
    this.#finder.wake();
    await this.#finder.idle();
  }

  /** Does nothing before the start. */
  wake(serverIds?: Iterable<number>): void {
    if (!this.#isStarted) return;
    const ids = [...(serverIds ?? this.#servers.keys())];
    for (const id of ids) this.#servers.get(id)?.wake();
    if (serverIds === undefined || ids.some((id) => !this.#servers.has(id))) this.#finder.wake();
  }

  /** Resolves when nothing runs or was woken; what waits for its time keeps waiting. */
  async idle(): Promise<void> {
    do {
      await this.#finder.idle();
      await Promise.all([...this.#servers.values()].map((server) => server.idle()));
      // The pass over one host may wake the loop of another that was idle before.
    } while (!this.#finder.isIdle || [...this.#servers.values()].some((server) => !server.isIdle));
  }

  /** undefined while every loop comes round; else what is wrong, for `/ready`. */
  async health(): Promise<string | undefined> {
    if (!this.#isStarted) return 'not started';
    const stuck = [...this.#servers.values()].filter((server) => server.isStuck());
    return stuck.length === 0 ? undefined : `stuck on ${stuck.length} of ${this.#servers.size} servers`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#finder[Symbol.asyncDispose]();
    await Promise.all([...this.#servers.values()].map((server) => server[Symbol.asyncDispose]()));
  }

  async #findServers(): Promise<void> {
    for (const row of await listServers(this.#deps.store, {}, { limit: MAX_SERVERS })) {
      if (!this.#servers.has(row.id)) this.#add(row);
    }
  }

  #add(row: ServerRow): void {
    const loop = new ServerLoop(this.#deps, row);
    this.#servers.set(row.id, loop);
    loop.wake();
  }
}

/** The passes over one host, one after another. */
class ServerLoop implements Waker, AsyncDisposable {
  readonly #deps: ReconcileLoopsDeps;
  readonly #server: Pick<ServerRow, 'id' | 'name'>;
  readonly #loop: Loop;
  /** When a round last came to its end, well or not. */
  #lastRoundAt: Instant;

  constructor(deps: ReconcileLoopsDeps, server: Pick<ServerRow, 'id' | 'name'>) {
    this.#deps = deps;
    this.#server = server;
    this.#lastRoundAt = deps.clock.now();
    this.#loop = new Loop({
      clock: deps.clock,
      run: (signal) => this.#round(signal),
      onError: (error) => this.#failed(error),
    });
  }

  wake(): void {
    this.#loop.wake();
  }

  get isIdle(): boolean {
    return this.#loop.isIdle;
  }

  idle(): Promise<void> {
    return this.#loop.idle();
  }

  /** A round takes well under a minute even on a host that hangs, so several missed ones mean a loop that died. */
  isStuck(): boolean {
    const { clock, config } = this.#deps;
    const patience = 3 * Math.max(config.reconcileIntervalSeconds, BACKOFF_CAP_SECONDS);
    return secondsBetween(this.#lastRoundAt, clock.now()) > patience;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#loop[Symbol.asyncDispose]();
  }

  /** Without a pause as long as there is work that did not fit into a pass: the time goes to the host, not to this process. */
  async #round(signal: AbortSignal): Promise<Instant> {
    for (;;) {
      const pass = await reconcileServer(this.#deps, this.#server.id, { signal });
      this.#lastRoundAt = this.#deps.clock.now();
      if (pass.goesOn !== true || signal.aborted) return this.#nextRound(pass);
    }
  }

  #nextRound({ nextAt }: Pass): Instant {
    const now = this.#deps.clock.now();
    const interval = addSeconds(now, this.#deps.config.reconcileIntervalSeconds);
    if (nextAt !== null && nextAt <= now) this.wake();
    return nextAt === null ? interval : minInstant(nextAt, interval);
  }

  #failed(error: unknown): Instant {
    const { clock, log } = this.#deps;
    this.#lastRoundAt = clock.now();
    log.error({ err: error, server: this.#server.name }, 'a pass over a host failed');
    return addSeconds(clock.now(), ERROR_RETRY_SECONDS);
  }
}

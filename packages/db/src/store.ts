import { AsyncLocalStorage } from 'node:async_hooks';
import type { Kysely, KyselyPlugin, PluginTransformQueryArgs, PluginTransformResultArgs, Transaction } from 'kysely';
import { type RootOperationNode, sql } from 'kysely';
import { type DialectHelpers, type Engine, postgresDialect, sqliteDialect } from './dialect.ts';
import { StoreMisuseError, StoreUnavailableError } from './errors.ts';
import { assertServable, listPending, migrateStore } from './migrate.ts';
import { openPostgres } from './open-postgres.ts';
import { openSqlite } from './open-sqlite.ts';
import { withRetries } from './retry.ts';
import type { DB } from './schema.generated.ts';

/** The tables, as Kysely sees them. */
export type Database = DB;

/** What a repository function needs to read, or to write a single statement. */
export interface Queryable {
  readonly kysely: Kysely<Database>;
  readonly dialect: DialectHelpers;
}

/** The same inside a transaction. A function that takes a `Tx` relies on its caller's locks, or takes one itself. */
export interface Tx extends Queryable {
  readonly isTransaction: true;
  /** Runs after the commit, never after a rollback. What it throws is reported, and changes nothing. */
  onCommit(hook: () => void): void;
}

export interface StoreOptions {
  /** Connections to PostgreSQL kept at most. Default 10. SQLite has one. */
  readonly poolSize?: number | undefined;
  /** An `onCommit` hook threw: for the log. */
  readonly onHookError?: ((error: unknown) => void) | undefined;
  /** A transaction is run again after a conflict: for the metrics. */
  readonly onRetry?: ((error: unknown, attempt: number) => void) | undefined;
  /** A connection broke; a new one is made when it is needed: for the log. */
  readonly onConnectionError?: ((error: unknown) => void) | undefined;
  /** Runs after the connections are closed. */
  readonly afterClose?: (() => Promise<void>) | undefined;
}

/**
 * Opens the database and touches nothing in it.
 *
 * @param url `sqlite:PATH`, `sqlite::memory:`, or `postgresql://user:password@host/database`.
 * @example
 * ```ts
 * await using store = await openStore('sqlite:./data/vpn-api.db');
 * await store.migrate();
 * const user = await store.transaction((tx) => insertUser(tx, { email: 'a@example.com', created_at: now }));
 * ```
 */
export async function openStore(url: string, options: StoreOptions = {}): Promise<Store> {
  const path = sqlitePath(url);
  if (path !== undefined) return new Store(await openSqlite(path), sqliteDialect, options);
  return new Store(openPostgres(postgresUrl(url), options), postgresDialect, options);
}

/** `sqlite:data/a.db` and, as SQLAlchemy writes it, `sqlite:///data/a.db`; an absolute path there has four slashes. */
function sqlitePath(url: string): string | undefined {
  const path = /^sqlite:(?:\/\/\/)?(.+)$/s.exec(url)?.[1];
  if (path?.startsWith('//')) throw new TypeError('A sqlite: URL names a file: sqlite:PATH or sqlite:///PATH');
  return path;
}

function postgresUrl(url: string): string {
  const rest = /^postgres(?:ql)?(?:\+\w+)?(:\/\/.+)$/s.exec(url)?.[1];
  if (rest === undefined) throw new TypeError('The database URL must start with sqlite: or postgresql://');
  return `postgresql${rest}`;
}

/** One database: queries, transactions that retry, and the schema's version. Closed by `await using`. */
export class Store implements Queryable, AsyncDisposable {
  readonly engine: Engine;
  readonly dialect: DialectHelpers;
  readonly #raw: Kysely<Database>;
  readonly #root: Kysely<Database>;
  readonly #options: StoreOptions;
  readonly #current = new AsyncLocalStorage<StoreTx>();
  #closing: Promise<void> | undefined;

  constructor(kysely: Kysely<Database>, dialect: DialectHelpers, options: StoreOptions) {
    this.engine = dialect.engine;
    this.dialect = dialect;
    this.#raw = kysely;
    this.#root = kysely.withPlugin(new QueryGuard(() => this.#assertOutside()));
    this.#options = options;
  }

  /**
   * The root handle: each statement is its own transaction.
   *
   * @throws StoreMisuseError inside a transaction of this Store, where on SQLite it would wait for itself for ever.
   */
  get kysely(): Kysely<Database> {
    this.#assertOutside();
    return this.#root;
  }

  /**
   * Runs `work` in a transaction and commits. Serialization failures, deadlocks and a busy database are retried for up to
   * 6 s by running `work` again: it must do no I/O but through its `Tx`, and keep no state between runs.
   *
   * @throws StoreUnavailableError when the database is lost or stays busy; whatever `work` throws, after a rollback.
   */
  async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    this.#assertOutside();
    const { result, tx } = await this.#retrying(() => this.#attempt(work));
    for (const hook of tx.hooks) this.#runHook(hook);
    return result;
  }

  /** Applies what is pending, each migration in its own transaction; instances that start together wait for each other. */
  migrate(): Promise<{ applied: string[] }> {
    return migrateStore(this);
  }

  /** Names of migrations this version brings that the database does not have yet. */
  pendingMigrations(): Promise<string[]> {
    return listPending(this);
  }

  /** @throws SchemaMismatchError on a schema newer than this version, or on the database of the service it replaces. */
  async checkSchema(): Promise<void> {
    await assertServable(this);
  }

  /** @throws StoreUnavailableError, or the signal's reason. */
  async ping(signal?: AbortSignal): Promise<void> {
    await sql`select 1`.execute(this.kysely, signal === undefined ? {} : { signal });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #attempt<T>(work: (tx: Tx) => Promise<T>): Promise<{ result: T; tx: StoreTx }> {
    const transaction = this.#raw.transaction().setIsolationLevel('read committed');
    return await transaction.execute(async (kysely) => {
      const tx = new StoreTx(kysely, this.dialect);
      try {
        return { result: await this.#current.run(tx, () => work(tx)), tx };
      } finally {
        tx.end();
      }
    });
  }

  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await withRetries(work, {
        isRetryable: (error) => this.#isRetryable(error),
        onRetry: this.#options.onRetry,
      });
    } catch (error) {
      if (this.dialect.classify(error) !== 'retry') throw error;
      throw new StoreUnavailableError('The database stayed busy', { cause: error });
    }
  }

  /** A second period with the same number means that somebody forgot the user's lock: the next run reads what is there. */
  #isRetryable(error: unknown): boolean {
    if (this.dialect.classify(error) === 'retry') return true;
    return this.dialect.uniqueViolation(error) === 'subscription_periods(user_id, seq)';
  }

  #assertOutside(): void {
    if (this.#current.getStore()?.active !== true) return;
    throw new StoreMisuseError('The root handle was used inside a transaction; use the Tx');
  }

  #runHook(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      this.#options.onHookError?.(error);
    }
  }

  async #close(): Promise<void> {
    await this.#raw.destroy();
    await this.#options.afterClose?.();
  }
}

class StoreTx implements Tx {
  readonly isTransaction = true;
  readonly dialect: DialectHelpers;
  readonly hooks: (() => void)[] = [];
  active = true;
  readonly #kysely: Transaction<Database>;

  constructor(kysely: Transaction<Database>, dialect: DialectHelpers) {
    this.#kysely = kysely.withPlugin(new QueryGuard(() => this.#assertActive()));
    this.dialect = dialect;
  }

  get kysely(): Kysely<Database> {
    this.#assertActive();
    return this.#kysely;
  }

  onCommit(hook: () => void): void {
    this.#assertActive();
    this.hooks.push(hook);
  }

  end(): void {
    this.active = false;
  }

  #assertActive(): void {
    if (!this.active) throw new StoreMisuseError('A transaction was used after its end; a promise was not awaited');
  }
}

/** Asks before every query, also of builders that were made earlier and of handles that were kept. */
class QueryGuard implements KyselyPlugin {
  readonly #assertUsable: () => void;

  constructor(assertUsable: () => void) {
    this.#assertUsable = assertUsable;
  }

  transformQuery(args: PluginTransformQueryArgs): RootOperationNode {
    this.#assertUsable();
    return args.node;
  }

  async transformResult(args: PluginTransformResultArgs): Promise<PluginTransformResultArgs['result']> {
    return args.result;
  }
}

/**
 * Which unique rule an insert or update broke, as `table(column, …)`, the same text on both engines; undefined for any
 * other error.
 */
export function isUniqueViolation(error: unknown): string | undefined {
  return sqliteDialect.uniqueViolation(error) ?? postgresDialect.uniqueViolation(error);
}

/** Whether a statement named a row that is not there, or removed one that others still point at. */
export function isForeignKeyViolation(error: unknown): boolean {
  return sqliteDialect.isForeignKeyViolation(error) || postgresDialect.isForeignKeyViolation(error);
}

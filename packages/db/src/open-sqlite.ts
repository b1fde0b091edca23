import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import {
  CompiledQuery,
  type DatabaseConnection,
  Kysely,
  type SqliteDatabase,
  SqliteDialect,
  SqliteDriver,
  type SqliteStatement,
} from 'kysely';
import { ConnectionGuard } from './connection-guard.ts';
import { sqliteDialect } from './dialect.ts';
import { withRetries } from './retry.ts';
import type { DB } from './schema.generated.ts';

/** better-sqlite3 blocks the whole process while it waits for a lock; what is longer than this is waited for asynchronously. */
const BUSY_TIMEOUT_MS = 25;
/** Enough for every statement the program has; lists of varying length push the oldest out. */
const STATEMENT_CACHE_SIZE = 500;

/** @param path file of the database, created readable by its owner only, or `:memory:`. */
export async function openSqlite(path: string): Promise<Kysely<DB>> {
  if (path !== ':memory:') createPrivateFile(path);
  // Switching to the write-ahead log needs the database for a moment, which another process may hold.
  const database = await withRetries(async () => connect(path), {
    isRetryable: (error) => sqliteDialect.classify(error) === 'retry',
  });
  return new Kysely<DB>({ dialect: new GuardedSqliteDialect({ database: new StatementCache(database) }) });
}

function createPrivateFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  if (existsSync(path)) return;
  closeSync(openSync(path, 'a', 0o600));
  // The mode above is narrowed by the umask but an odd umask must not take our own rights away.
  chmodSync(path, 0o600);
}

function connect(path: string): BetterSqlite.Database {
  const database = new BetterSqlite(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.pragma('journal_mode = WAL');
    // FULL: a committed payment survives a power cut, not only a crash of the process.
    database.pragma('synchronous = FULL');
    database.pragma('foreign_keys = ON');
    database.pragma('journal_size_limit = 67108864');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class GuardedSqliteDialect extends SqliteDialect {
  readonly #config: { readonly database: SqliteDatabase };

  constructor(config: { readonly database: SqliteDatabase }) {
    super(config);
    this.#config = config;
  }

  override createDriver(): GuardedSqliteDriver {
    return new GuardedSqliteDriver(this.#config);
  }
}

class GuardedSqliteDriver extends SqliteDriver {
  readonly #guard = new ConnectionGuard(sqliteDialect);

  override async acquireConnection(): Promise<DatabaseConnection> {
    return this.#guard.protect(await super.acquireConnection());
  }

  /** A plain `begin` that later turns into a writer fails at once, unretryable, when another process wrote meanwhile. */
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    this.#guard.enter(connection);
    try {
      await connection.executeQuery(CompiledQuery.raw('begin immediate'));
    } catch (error) {
      this.#guard.leave(connection);
      throw error;
    }
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await super.commitTransaction(connection);
    this.#guard.leave(connection);
  }

  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await super.rollbackTransaction(connection);
    } finally {
      this.#guard.leave(connection);
    }
  }
}

/** Preparing costs more than most of our selects; Kysely asks for the same SQL text each time. Least recently used goes. */
class StatementCache implements SqliteDatabase {
  readonly #database: BetterSqlite.Database;
  readonly #statements = new Map<string, SqliteStatement>();

  constructor(database: BetterSqlite.Database) {
    this.#database = database;
  }

  prepare(sql: string): SqliteStatement {
    // A statement remembers its columns: whatever changes the schema makes all of them stale.
    if (/^\s*(create|alter|drop)\b/i.test(sql)) this.#statements.clear();
    const statement = this.#statements.get(sql) ?? new SafeStatement(this.#database.prepare(sql));
    this.#statements.delete(sql);
    this.#statements.set(sql, statement);
    if (this.#statements.size > STATEMENT_CACHE_SIZE) this.#dropOldest();
    return statement;
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #dropOldest(): void {
    const oldest = this.#statements.keys().next();
    if (!oldest.done) this.#statements.delete(oldest.value);
  }
}

/** Refuses integers that JavaScript would round, as the PostgreSQL side does. */
class SafeStatement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: BetterSqlite.Statement;

  constructor(statement: BetterSqlite.Statement) {
    this.reader = statement.reader;
    this.#statement = statement;
  }

  all(parameters: ReadonlyArray<unknown>): unknown[] {
    const rows = this.#statement.all(...parameters);
    for (const row of rows) assertExact(row as Record<string, unknown>);
    return rows;
  }

  run(parameters: ReadonlyArray<unknown>): { changes: number; lastInsertRowid: number | bigint } {
    return this.#statement.run(...parameters);
  }

  iterate(): IterableIterator<unknown> {
    throw new Error('Streaming would keep the only connection busy; read pages instead');
  }
}

function assertExact(row: Record<string, unknown>): void {
  for (const name in row) {
    const value = row[name];
    if (typeof value !== 'number' || Number.isSafeInteger(value) || !Number.isInteger(value)) continue;
    throw new RangeError(`The integer in column ${name} is beyond what JavaScript holds exactly`);
  }
}

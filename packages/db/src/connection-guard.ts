import type { DatabaseConnection } from 'kysely';
import type { DialectHelpers } from './dialect.ts';
import { StoreUnavailableError } from './errors.ts';
import { withRetries } from './retry.ts';

/**
 * Stands between Kysely and a connection. A statement outside a transaction is repeated when the database was busy, as a
 * whole transaction is by the Store; and an error that means "not reachable" becomes a `StoreUnavailableError`.
 */
export class ConnectionGuard {
  readonly #dialect: DialectHelpers;
  readonly #inTransaction = new WeakSet<DatabaseConnection>();
  readonly #guarded = new WeakSet<DatabaseConnection>();
  readonly #doubtful = new WeakSet<DatabaseConnection>();

  constructor(dialect: DialectHelpers) {
    this.#dialect = dialect;
  }

  /** Statements are passed through once until {@link leave}: only the Store may run a transaction again. */
  enter(connection: DatabaseConnection): void {
    this.#inTransaction.add(connection);
  }

  leave(connection: DatabaseConnection): void {
    this.#inTransaction.delete(connection);
  }

  /** Whether a statement failed in a way that may mean that the connection is broken. Asks once. */
  takeDoubt(connection: DatabaseConnection): boolean {
    return this.#doubtful.delete(connection);
  }

  protect<C extends DatabaseConnection>(connection: C): C {
    if (this.#guarded.has(connection)) return connection;
    this.#guarded.add(connection);
    const execute = connection.executeQuery.bind(connection);
    connection.executeQuery = (query, options) => this.#run(connection, () => execute(query, options));
    return connection;
  }

  /** Errors of connecting, which no statement has seen yet. */
  translate(error: unknown): unknown {
    if (this.#dialect.classify(error) !== 'unavailable') return error;
    return new StoreUnavailableError('The database is not reachable', { cause: error });
  }

  async #run<T>(connection: DatabaseConnection, work: () => Promise<T>): Promise<T> {
    try {
      if (this.#inTransaction.has(connection)) return await work();
      return await withRetries(work, { isRetryable: (error) => this.#dialect.classify(error) === 'retry' });
    } catch (error) {
      const translated = this.translate(error);
      if (translated instanceof StoreUnavailableError) this.#doubtful.add(connection);
      throw translated;
    }
  }
}

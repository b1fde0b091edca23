import { type DatabaseConnection, Kysely, PostgresDialect, PostgresDriver, type TransactionSettings } from 'kysely';
import pg from 'pg';
import { ConnectionGuard } from './connection-guard.ts';
import { postgresDialect } from './dialect.ts';
import type { DB } from './schema.generated.ts';

export interface PostgresOptions {
  /** Connections kept at most; each costs the server a process. */
  readonly poolSize?: number | undefined;
  /** A connection broke; the pool makes a new one when it is needed: for the log. */
  readonly onConnectionError?: ((error: unknown) => void) | undefined;
}

/** A request that waits longer for a free connection is better answered "unavailable". */
const CONNECT_TIMEOUT_MS = 5_000;
/** No statement of ours is slow; one that runs this long waits for a lock that nobody will release. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** A transaction that does nothing for this long belongs to a process that hangs, and holds its locks. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000;
const IDLE_CONNECTION_MS = 30_000;

const INT8 = 20;
const TIMESTAMPTZ = 1184;

export function openPostgres(url: string, options: PostgresOptions = {}): Kysely<DB> {
  const pool = new pg.Pool({
    connectionString: url,
    max: options.poolSize ?? 10,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_CONNECTION_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    application_name: 'vpn-api',
    types: { getTypeParser },
  });
  // Without a listener of its own the loss of a connection, idle or in the middle of a transaction, would end the process.
  pool.on('connect', (client) => client.on('error', (error) => options.onConnectionError?.(error)));
  pool.on('error', () => {});
  return new Kysely<DB>({ dialect: new GuardedPostgresDialect({ pool }) });
}

class GuardedPostgresDialect extends PostgresDialect {
  readonly #config: { readonly pool: pg.Pool };

  constructor(config: { readonly pool: pg.Pool }) {
    super(config);
    this.#config = config;
  }

  override createDriver(): GuardedPostgresDriver {
    return new GuardedPostgresDriver(this.#config);
  }
}

class GuardedPostgresDriver extends PostgresDriver {
  readonly #guard = new ConnectionGuard(postgresDialect);

  override async acquireConnection(): Promise<DatabaseConnection> {
    try {
      return this.#guard.protect(await super.acquireConnection());
    } catch (error) {
      throw this.#guard.translate(error);
    }
  }

  override async beginTransaction(connection: DatabaseConnection, settings: TransactionSettings): Promise<void> {
    this.#guard.enter(connection);
    await super.beginTransaction(connection, settings);
  }

  override async releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#guard.leave(connection);
    // A dying connection says goodbye before its socket closes. Asked once more it fails, and does not return to the pool.
    const own = connection as Parameters<PostgresDriver['releaseConnection']>[0];
    if (this.#guard.takeDoubt(connection)) await super.rollbackTransaction(own).catch(() => {});
    await super.releaseConnection(own);
  }
}

/** Parsers of this pool only: `pg.types.setTypeParser` would change every other user of `pg` in the process. */
function getTypeParser(oid: number, format?: 'text' | 'binary') {
  if (format !== 'binary' && oid === INT8) return parseInt8;
  if (format !== 'binary' && oid === TIMESTAMPTZ) return parseTimestamp;
  return pg.types.getTypeParser(oid, format as 'text');
}

/** @throws RangeError when a number would lose digits. */
export function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`The integer ${text} is beyond what JavaScript holds exactly`);
  return value;
}

/**
 * PostgreSQL's text of a `timestamptz(3)` in whatever time zone the session has, as `YYYY-MM-DDTHH:mm:ss.sssZ`.
 *
 * @throws RangeError for what is no point in time, such as `infinity`.
 */
export function parseTimestamp(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,3}))?([+-]\d\d(?::\d\d)?)$/.exec(text);
  if (match === null) throw new RangeError(`The timestamp ${text} cannot be read`);
  const [, date, time, fraction = '', offset = ''] = match;
  const instant = `${date}T${time}.${fraction.padEnd(3, '0')}`;
  if (offset === '+00') return `${instant}Z`;
  return new Date(`${instant}${offset.length === 3 ? `${offset}:00` : offset}`).toISOString();
}

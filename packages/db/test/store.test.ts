import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  findUserById,
  insertUser,
  isForeignKeyViolation,
  isUniqueViolation,
  listPeriodsForUser,
  lockUser,
  openStore,
  type Queryable,
  type Store,
  StoreMisuseError,
  StoreUnavailableError,
  type Tx,
} from '../src/index.ts';
import { insertPeriod } from '../src/repos/subscription-periods.ts';
import { engines, openTestStore } from '../src/testing.ts';
import { addPeriod, addUser, at, periodColumns } from './fixtures.ts';

describe.each(engines)('a transaction on %s', (engine) => {
  test('commits what it did and answers the result of the work', async () => {
    await using store = await openTestStore(engine);
    const user = await store.transaction((tx) => insertUser(tx, { email: 'a@example.com', created_at: at(0) }));
    expect(await findUserById(store, user.id)).toEqual(user);
  });

  test('leaves nothing behind when the work throws', async () => {
    await using store = await openTestStore(engine);
    const work = store.transaction(async (tx) => {
      await insertUser(tx, { email: 'a@example.com', created_at: at(0) });
      throw new Error('changed my mind');
    });
    await expect(work).rejects.toThrow('changed my mind');
    expect(await findUserById(store, 1)).toBeUndefined();
  });

  test('runs onCommit hooks in order after the commit, when the rows are visible to others', async () => {
    await using store = await openTestStore(engine);
    const seen: unknown[] = [];
    const user = await store.transaction(async (tx) => {
      tx.onCommit(() => seen.push('first'));
      tx.onCommit(() => seen.push(findUserById(store, 1)));
      const inserted = await insertUser(tx, { email: 'a@example.com', created_at: at(0) });
      expect(seen).toEqual([]);
      return inserted;
    });
    expect(seen[0]).toBe('first');
    expect(await seen[1]).toEqual(user);
  });

  test('runs no onCommit hook after a rollback', async () => {
    await using store = await openTestStore(engine);
    let ran = false;
    const work = store.transaction(async (tx) => {
      tx.onCommit(() => {
        ran = true;
      });
      throw new Error('rolled back');
    });
    await expect(work).rejects.toThrow('rolled back');
    expect(ran).toBe(false);
  });

  test('reports what a hook throws and still answers the result', async () => {
    const reported: unknown[] = [];
    await using store = await openTestStore(engine, { onHookError: (error) => reported.push(error) });
    const result = await store.transaction(async (tx) => {
      tx.onCommit(() => {
        throw new Error('hook failed');
      });
      return 'committed';
    });
    expect(result).toBe('committed');
    expect(reported).toEqual([new Error('hook failed')]);
  });

  test('throws when its Tx is used after its end, however the handle was kept', async () => {
    await using store = await openTestStore(engine);
    let leaked: Tx | undefined;
    const handle = await store.transaction(async (tx) => {
      leaked = tx;
      return [tx.kysely] as const;
    });
    expect(() => leaked?.kysely).toThrow(StoreMisuseError);
    expect(() => leaked?.onCommit(() => {})).toThrow(StoreMisuseError);
    await expect(handle[0].selectFrom('users').selectAll().execute()).rejects.toThrow(StoreMisuseError);
  });

  test('throws instead of hanging when the root handle is used inside, however the handle was got', async () => {
    await using store = await openTestStore(engine);
    const root = store.kysely;
    await store.transaction(async () => {
      expect(() => store.kysely).toThrow(StoreMisuseError);
      await expect(root.selectFrom('users').selectAll().execute()).rejects.toThrow(StoreMisuseError);
      await expect(store.transaction(async () => 1)).rejects.toThrow(StoreMisuseError);
      await expect(store.ping()).rejects.toThrow(StoreMisuseError);
    });
  });

  test('lets work that it merely started use the root handle once it is over', async () => {
    await using store = await openTestStore(engine);
    let start = (): void => {};
    const later = await store.transaction(async () => {
      const started = new Promise<void>((done) => {
        start = done;
      });
      return [started.then(() => findUserById(store, 1))] as const;
    });
    start();
    expect(await later[0]).toBeUndefined();
  });

  test('of two that change one user, the second sees what the first did when both lock him', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const grant = () => store.transaction((tx) => grantNext(tx, user.id));
    await Promise.all(Array.from({ length: 12 }, grant));
    const seqs = (await listPeriodsForUser(store, user.id)).map((period) => period.seq);
    expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  test('is run again when a forgotten lock made two periods with one number', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    await addPeriod(store, user.id);
    let runs = 0;
    await store.transaction(async (tx) => {
      runs += 1;
      await insertPeriod(tx, { ...periodColumns, user_id: user.id, seq: runs === 1 ? 1 : 2 });
    });
    expect(runs).toBe(2);
    expect(await listPeriodsForUser(store, user.id)).toHaveLength(2);
  });

  test('keeps the hooks of the run that committed only', async () => {
    await using store = await openTestStore(engine);
    const ran: number[] = [];
    let runs = 0;
    await store.transaction(async (tx) => {
      const run = ++runs;
      tx.onCommit(() => ran.push(run));
      if (run < 3) throw busyError(engine);
    });
    expect(ran).toEqual([3]);
  });
});

describe.each(engines)('values on %s', (engine) => {
  test('instants come back as they were written', async () => {
    await using store = await openTestStore(engine);
    for (const instant of [
      '2026-01-01T00:00:00.000Z',
      '2026-06-30T23:59:59.999Z',
      '9999-12-31T23:59:59.999Z',
      '0001-01-01T00:00:00.000Z',
    ]) {
      const user = await addUser(store, { blocked_at: instant });
      expect((await findUserById(store, user.id))?.blocked_at).toBe(instant);
    }
  });

  test('an instant is equal to itself in a condition', async () => {
    await using store = await openTestStore(engine);
    await addUser(store, { blocked_at: at(0.123) });
    const query = store.kysely.selectFrom('users').select('id').where('blocked_at', '=', at(0.123));
    expect(await query.where('blocked_at', '<=', at(0.123)).execute()).toHaveLength(1);
  });

  test('integers are exact up to the limit of JavaScript, and refused beyond it', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store, { telegram_id: Number.MAX_SAFE_INTEGER });
    expect((await findUserById(store, user.id))?.telegram_id).toBe(Number.MAX_SAFE_INTEGER);
    await sql`update users set telegram_id = ${sql.raw('9007199254740993')}`.execute(store.kysely);
    await expect(findUserById(store, user.id)).rejects.toThrow(RangeError);
  });

  test('a count is a number', async () => {
    await using store = await openTestStore(engine);
    const query = store.kysely.selectFrom('users').select((eb) => eb.fn.countAll<number>().as('total'));
    expect(await query.executeTakeFirstOrThrow()).toEqual({ total: 0 });
  });

  test('a unique violation is named by its table and columns', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store, { email: 'a@example.com' });
    expect(isUniqueViolation(await failureOf(addUser(store, { email: 'a@example.com' })))).toBe('users(email)');
    const twice = store.kysely
      .insertInto('users')
      .values({ id: user.id, created_at: at(0) })
      .execute();
    expect(isUniqueViolation(await failureOf(twice))).toBe('users(id)');
    expect(isUniqueViolation(new Error('something else'))).toBeUndefined();
  });

  test('a row that points nowhere is a foreign key violation', async () => {
    await using store = await openTestStore(engine);
    const failure = await failureOf(addPeriod(store, 999));
    expect(isForeignKeyViolation(failure)).toBe(true);
    expect(isUniqueViolation(failure)).toBeUndefined();
  });

  test('a state that is not in the list is refused', async () => {
    await using store = await openTestStore(engine);
    await addUser(store);
    await expect(sql`update users set status = 'sleeping'`.execute(store.kysely)).rejects.toThrow(/check/i);
  });
});

describe('on SQLite', () => {
  test('the database file is readable by its owner only, in a folder that was made', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vpn-db-'));
    const path = join(folder, 'deep', 'er', 'vpn-api.db');
    {
      await using store = await openStore(`sqlite:${path}`);
      await store.migrate();
      for (const file of [path, `${path}-wal`]) expect((await stat(file)).mode & 0o777).toBe(0o600);
    }
    await rm(folder, { recursive: true });
  });

  test('a write waits for another process without stopping this one', async () => {
    await using store = await openTestStore('sqlite', { file: true });
    await using _lock = await holdWriteLock(store.url.slice('sqlite:'.length), 1_000);
    const started = performance.now();
    const longestPause = await pausesWhile(addUserInTransaction(store));
    expect(performance.now() - started).toBeGreaterThan(500);
    expect(longestPause).toBeLessThan(300);
  });

  test('a single statement waits for another process too', async () => {
    await using store = await openTestStore('sqlite', { file: true });
    await using _lock = await holdWriteLock(store.url.slice('sqlite:'.length), 300);
    expect(await addUser(store)).toMatchObject({ status: 'active' });
  });

  test('another process that never lets go makes the database unavailable', async () => {
    await using store = await openTestStore('sqlite', { file: true });
    await using _lock = await holdWriteLock(store.url.slice('sqlite:'.length), 20_000);
    expect(await failureOf(addUserInTransaction(store))).toBeInstanceOf(StoreUnavailableError);
  });
});

describe('on PostgreSQL', () => {
  test('deadlocks are run again and never shown', async () => {
    const retried: unknown[] = [];
    await using store = await openTestStore('postgres', { onRetry: (error) => retried.push(error) });
    const [a, b] = [await addUser(store), await addUser(store)];
    const both = barrier(2);
    const crossing = (first: number, second: number) => {
      let runs = 0;
      return store.transaction(async (tx) => {
        await lockUser(tx, first);
        if (++runs === 1) await both();
        await lockUser(tx, second);
      });
    };
    await Promise.all([crossing(a.id, b.id), crossing(b.id, a.id)]);
    expect(retried).toHaveLength(1);
  });

  test('an unreachable server is unavailable, for statements and transactions', async () => {
    await using store = await openStore('postgresql://nobody@127.0.0.1:1/none');
    expect(await failureOf(store.ping())).toBeInstanceOf(StoreUnavailableError);
    expect(await failureOf(store.transaction(async () => 1))).toBeInstanceOf(StoreUnavailableError);
  });

  test('a connection that breaks is unavailable once and replaced', async () => {
    const broken: unknown[] = [];
    await using store = await openTestStore('postgres', { onConnectionError: (error) => broken.push(error) });
    const suicide = sql`select pg_terminate_backend(pg_backend_pid())`.execute(store.kysely);
    expect(await failureOf(suicide)).toBeInstanceOf(StoreUnavailableError);
    await store.ping();
  });

  test('a connection that breaks between two statements of a transaction is unavailable and ends nothing', async () => {
    await using store = await openTestStore('postgres', { poolSize: 1 });
    await using other = await openStore(store.url);
    const cut = store.transaction(async (tx) => {
      await insertUser(tx, { email: 'cut@example.com', created_at: at(0) });
      await terminateOthers(other);
      await insertUser(tx, { email: 'off@example.com', created_at: at(0) });
    });
    expect(await failureOf(cut)).toBeInstanceOf(StoreUnavailableError);
    expect(await findUserById(store, 1)).toBeUndefined();
  });

  test('an idle connection that breaks ends nothing and is reported', async () => {
    let report = (_: unknown): void => {};
    const reported = new Promise((done) => {
      report = done;
    });
    await using store = await openTestStore('postgres', { onConnectionError: (error) => report(error) });
    await using other = await openStore(store.url);
    await store.ping();
    await terminateOthers(other);
    expect(await reported).toBeInstanceOf(Error);
    await store.ping();
  });

  test('the zone of the session changes no instant', async () => {
    await using store = await openTestStore('postgres', { poolSize: 1 });
    const user = await addUser(store, { blocked_at: at(0.5) });
    for (const zone of ['Asia/Kolkata', 'America/New_York', 'UTC']) {
      await sql`set timezone to ${sql.lit(zone)}`.execute(store.kysely);
      expect((await findUserById(store, user.id))?.blocked_at).toBe(at(0.5));
    }
  });

  test('what is no point in time is refused', async () => {
    await using store = await openTestStore('postgres');
    await addUser(store);
    await sql`update users set blocked_at = 'infinity'`.execute(store.kysely);
    await expect(findUserById(store, 1)).rejects.toThrow(RangeError);
  });
});

describe('openStore', () => {
  test.each(['mysql://localhost/x', '', 'sqlite:', 'sqlite://'])('refuses %j', async (url) => {
    await expect(openStore(url)).rejects.toThrow(TypeError);
  });

  test('takes the way SQLAlchemy writes a path', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vpn-db-'));
    {
      await using store = await openStore(`sqlite:///${join(folder, 'a.db')}`);
      await store.ping();
    }
    expect((await readFile(join(folder, 'a.db'))).byteLength).toBeGreaterThanOrEqual(0);
    await rm(folder, { recursive: true });
  });

  test('closes once, however often it is asked', async () => {
    const store = await openStore('sqlite::memory:');
    await store.ping();
    await Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]);
    await expect(store.ping()).rejects.toThrow();
  });

  test('a ping stops waiting when told to', async () => {
    await using store = await openStore('sqlite::memory:');
    await expect(store.ping(AbortSignal.abort(new Error('enough')))).rejects.toThrow();
  });
});

async function grantNext(tx: Tx, userId: number): Promise<void> {
  await lockUser(tx, userId);
  const seq = (await listPeriodsForUser(tx, userId)).length + 1;
  await insertPeriod(tx, { ...periodColumns, user_id: userId, seq });
}

function addUserInTransaction(store: { transaction: <T>(work: (tx: Tx) => Promise<T>) => Promise<T> }) {
  return store.transaction((tx: Queryable) => insertUser(tx, { email: 'late@example.com', created_at: at(0) }));
}

async function terminateOthers(store: Store): Promise<void> {
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`.execute(store.kysely);
}

function busyError(engine: string): Error {
  const code = engine === 'sqlite' ? 'SQLITE_BUSY' : '40001';
  return Object.assign(new Error('conflict'), { code });
}

/** The longest time in milliseconds that the event loop stood still until `work` was done. */
async function pausesWhile(work: Promise<unknown>): Promise<number> {
  let isDone = false;
  const done = work.then(() => {
    isDone = true;
  });
  let longest = 0;
  while (!isDone) {
    const before = performance.now();
    await setImmediate();
    longest = Math.max(longest, performance.now() - before);
  }
  await done;
  return longest;
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function barrier(parties: number): () => Promise<void> {
  let arrived = 0;
  let open = (): void => {};
  const opened = new Promise<void>((done) => {
    open = done;
  });
  return () => {
    arrived += 1;
    if (arrived === parties) open();
    return opened;
  };
}

/** Another thread with a connection of its own: to SQLite the same as another process. */
async function holdWriteLock(path: string, milliseconds: number): Promise<AsyncDisposable> {
  const script = `
    const { parentPort } = require('node:worker_threads');
    const Database = require('better-sqlite3');
    const database = new Database(${JSON.stringify(path)});
    database.exec('begin immediate');
    parentPort.postMessage('held');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${milliseconds});
    database.exec('commit');
    database.close();`;
  const file = join(import.meta.dirname, `.lock-${process.pid}.cjs`);
  await writeFile(file, script);
  const worker = new Worker(file);
  await once(worker, 'message');
  await rm(file);
  return {
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}

import { sql } from 'kysely';
import { SchemaMismatchError } from './errors.ts';
import { commentsOf, withoutAddedRemark } from './migrations/comments.ts';
import { type Migration, migrations } from './migrations/index.ts';
import type { Queryable, Store, Tx } from './store.ts';

/** Applies every pending migration. Each runs alone in a transaction and is recorded in it: all of it, or nothing. */
export async function migrateStore(
  store: Store,
  all: readonly Migration[] = migrations,
): Promise<{ applied: string[] }> {
  const applied: string[] = [];
  for (;;) {
    const name = await store.transaction((tx) => applyNext(tx, all));
    if (name === undefined) return { applied };
    applied.push(name);
  }
}

/** @throws SchemaMismatchError on a database that this version must not touch. */
export async function listPending(q: Queryable, all: readonly Migration[] = migrations): Promise<string[]> {
  const done = await assertServable(q, all);
  return all.map((migration) => migration.name).filter((name) => !done.has(name));
}

/** @returns the names that are applied. */
export async function assertServable(q: Queryable, all: readonly Migration[] = migrations): Promise<Set<string>> {
  if (await tableExists(q, 'alembic_version')) throw new SchemaMismatchError('legacy', LEGACY);
  const done = await appliedMigrations(q);
  const unknown = [...done].filter((name) => !all.some((migration) => migration.name === name));
  if (unknown.length > 0) throw new SchemaMismatchError('newer', newer(unknown));
  return done;
}

async function applyNext(tx: Tx, all: readonly Migration[]): Promise<string | undefined> {
  for (const lock of tx.dialect.migrationLock) await lock.execute(tx.kysely);
  const done = await assertServable(tx, all);
  const next = all.find((migration) => !done.has(migration.name));
  if (next === undefined) return undefined;
  await sql`create table if not exists _migrations (name text not null primary key, applied_at text not null)`.execute(
    tx.kysely,
  );
  await run(tx, next);
  const appliedAt = new Date().toISOString();
  await sql`insert into _migrations (name, applied_at) values (${next.name}, ${appliedAt})`.execute(tx.kysely);
  return next.name;
}

async function run(tx: Tx, migration: Migration): Promise<void> {
  for (const statement of migration.statements(tx.dialect.tokens)) {
    await sql.raw(withoutAddedRemark(statement)).execute(tx.kysely);
    for (const { table, column, text } of commentsOf(statement)) {
      const comment = tx.dialect.comment(table, column, text);
      if (comment !== undefined) await sql.raw(comment).execute(tx.kysely);
    }
  }
}

async function appliedMigrations(q: Queryable): Promise<Set<string>> {
  if (!(await tableExists(q, '_migrations'))) return new Set();
  const { rows } = await sql<{ name: string }>`select name from _migrations order by name`.execute(q.kysely);
  return new Set(rows.map((row) => row.name));
}

async function tableExists(q: Queryable, name: string): Promise<boolean> {
  const { rows } = await q.dialect.tableExists(name).execute(q.kysely);
  return (rows[0]?.found ?? 0) > 0;
}

const LEGACY =
  'This database belongs to the Python service that VPN API replaces: it has a table named alembic_version. It is left ' +
  'as it is. Set DATABASE_URL to a new, empty database and bring the data over with the "import" command, naming this one.';

function newer(names: readonly string[]): string {
  return (
    `This database was migrated by a newer version of VPN API (${names.join(', ')}). Start that version, ` +
    'or restore the backup that was made before the upgrade.'
  );
}

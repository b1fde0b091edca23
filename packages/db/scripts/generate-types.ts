import type { Kysely } from 'kysely';
import {
  type DatabaseMetadata,
  IdentifierNode,
  type PostgresDB,
  PostgresDialect,
  PostgresIntrospector,
  SqliteDialect,
  SqliteIntrospector,
  serializeFromMetadata,
} from 'kysely-codegen';
import { sqliteDialect } from '../src/dialect.ts';
import { migrations } from '../src/migrations/index.ts';
import type { Store } from '../src/store.ts';

/** TypeScript types of a migrated database: the same text whichever engine it is on. */
export async function generateTypes(store: Store): Promise<string> {
  const metadata = withLiterals(await introspect(store));
  const dialect = store.engine === 'sqlite' ? new SqliteDialect() : postgresDialect();
  return serializeFromMetadata({ dialect, metadata, typeOnlyImports: true });
}

async function introspect(store: Store): Promise<DatabaseMetadata> {
  if (store.engine === 'sqlite') return await new SqliteIntrospector().introspect({ db: store.kysely });
  // Only its catalog queries need the type of PostgreSQL's own tables.
  const db = store.kysely as unknown as Kysely<PostgresDB>;
  return await new PostgresIntrospector().introspect({ db });
}

function postgresDialect(): PostgresDialect {
  const dialect = new PostgresDialect();
  // Our pool's parsers: exact integers as numbers, instants as text.
  Object.assign(dialect.adapter.scalars, {
    int8: new IdentifierNode('number'),
    timestamptz: new IdentifierNode('string'),
  });
  return dialect;
}

function withLiterals(metadata: DatabaseMetadata): DatabaseMetadata {
  const tables = metadata.tables.filter((table) => !table.name.startsWith('_'));
  for (const table of tables) {
    table.schema = undefined;
    for (const column of table.columns) {
      column.comment = null;
      column.enumValues = LITERALS.get(`${table.name}.${column.name}`) ?? null;
    }
  }
  metadata.tables = tables;
  return metadata;
}

/** `check (status in ('a', 'b'))` in the migrations, by `table.column`: the rule and the type cannot drift apart. */
const LITERALS = literals(migrations.flatMap((migration) => migration.statements(sqliteDialect.tokens)));

function literals(statements: readonly string[]): ReadonlyMap<string, string[]> {
  const found = new Map<string, string[]>();
  for (const statement of statements) {
    const table = /^\s*(?:create|alter) table (\w+)/.exec(statement)?.[1];
    for (const [, column, list = ''] of statement.matchAll(/check \((\w+) in \(('[^)]*')\)\)/g)) {
      const values = list.split(',').map((value) => value.trim().slice(1, -1));
      found.set(`${table}.${column}`, values);
    }
    renameColumn(found, table, statement);
  }
  return found;
}

/** A column that takes the name of another brings its own rule along. */
function renameColumn(found: Map<string, string[]>, table: string | undefined, statement: string): void {
  const [, from, to] = / rename column (\w+) to (\w+)/.exec(statement) ?? [];
  const values = found.get(`${table}.${from}`);
  if (values !== undefined) found.set(`${table}.${to}`, values);
}

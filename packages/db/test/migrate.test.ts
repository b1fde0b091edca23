import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { openStore, SchemaMismatchError } from '../src/index.ts';
import { listPending, migrateStore } from '../src/migrate.ts';
import { commentsOf } from '../src/migrations/comments.ts';
import { type Migration, migrations } from '../src/migrations/index.ts';
import { engines, openTestStore } from '../src/testing.ts';

const names = migrations.map((migration) => migration.name);

describe.each(engines)('migrations on %s', (engine) => {
  test('an empty database gets all of them once, and nothing the second time', async () => {
    await using store = await openTestStore(engine, { empty: true });
    expect(await store.pendingMigrations()).toEqual(names);
    expect(await store.migrate()).toEqual({ applied: names });
    expect(await store.pendingMigrations()).toEqual([]);
    expect(await store.migrate()).toEqual({ applied: [] });
  });

  test('two instances that start at once apply each migration once between them', async () => {
    await using store = await openTestStore(engine, { empty: true, file: true });
    await using other = await openStore(store.url);
    const results = await Promise.all([store.migrate(), other.migrate()]);
    expect(results.flatMap((result) => result.applied).toSorted()).toEqual(names);
  });

  test('one that fails leaves nothing of itself and keeps those before it', async () => {
    await using store = await openTestStore(engine, { empty: true });
    const broken: Migration = {
      name: '0002-broken',
      statements: () => ['create table half_done (id integer)', 'create table half_done (id integer)'],
    };
    const steps = [...migrations, broken];
    await expect(migrateStore(store, steps)).rejects.toThrow(/half_done/);
    expect(await listPending(store, steps)).toEqual(['0002-broken']);
    await expect(sql`select * from half_done`.execute(store.kysely)).rejects.toThrow();
  });

  test('a schema of a newer version is refused by name', async () => {
    await using store = await openTestStore(engine);
    await sql`insert into _migrations (name, applied_at) values ('9999-future', '2030-01-01T00:00:00.000Z')`.execute(
      store.kysely,
    );
    for (const call of [() => store.checkSchema(), () => store.migrate(), () => store.pendingMigrations()]) {
      await expect(call()).rejects.toThrow(/newer version.*9999-future/);
    }
  });

  test('the database of the service that this one replaces is refused, untouched, with the way over', async () => {
    await using store = await openTestStore(engine, { empty: true });
    await sql`create table alembic_version (version_num varchar(32) not null)`.execute(store.kysely);
    const refusal = await store.migrate().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(SchemaMismatchError);
    expect(refusal).toMatchObject({ reason: 'legacy', message: expect.stringMatching(/alembic_version.*"import"/s) });
    await expect(sql`select * from users`.execute(store.kysely)).rejects.toThrow();
  });

  test('a database that is up to date passes the check', async () => {
    await using store = await openTestStore(engine);
    await store.checkSchema();
  });
});

test('PostgreSQL shows the remarks of the migrations as comments of the columns', async () => {
  await using store = await openTestStore('postgres');
  const { rows } = await sql<{ text: string }>`select col_description('payments'::regclass, attnum) as text
    from pg_attribute where attrelid = 'payments'::regclass and attname = 'provider_payment_id'`.execute(store.kysely);
  expect(rows).toEqual([{ text: "the provider's charge id: what identifies money" }]);
});

test('remarks are found behind columns and nowhere else', () => {
  const statement = `create table things (
  id integer, -- the number
  name text not null,
  unique (name)
)`;
  expect(commentsOf(statement)).toEqual([{ table: 'things', column: 'id', text: 'the number' }]);
  expect(commentsOf('create index things_name on things (name)')).toEqual([]);
  const added = 'alter table things add column size integer not null default 0 check (size >= 0) -- in bytes';
  expect(commentsOf(added)).toEqual([{ table: 'things', column: 'size', text: 'in bytes' }]);
});

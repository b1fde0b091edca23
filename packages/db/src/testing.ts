import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { Engine } from './dialect.ts';
import { openStore, type Store, type StoreOptions } from './store.ts';

/** For `describe.each(engines)`: the same guarantees hold on both. */
export const engines: readonly Engine[] = ['sqlite', 'postgres'];

export interface TestStoreOptions extends StoreOptions {
  /** SQLite in a file instead of in memory, for tests that open it twice. */
  readonly file?: boolean;
  /** No tables: for tests of the migrations themselves. */
  readonly empty?: boolean;
}

/** A Store with its address, so that a test can play a second instance. */
export type TestStore = Store & { readonly url: string };

/**
 * A fresh, migrated database of its own, gone when the Store is closed. PostgreSQL must have been started by the vitest
 * globalSetup `tooling/vitest/postgres.ts`.
 *
 * @example
 * ```ts
 * describe.each(engines)('users on %s', (engine) => {
 *   test('an e-mail belongs to one account', async () => {
 *     await using store = await openTestStore(engine);
 *   });
 * });
 * ```
 */
export async function openTestStore(engine: Engine, options: TestStoreOptions = {}): Promise<TestStore> {
  return engine === 'sqlite' ? await openSqliteStore(options) : await openPostgresStore(options);
}

async function openSqliteStore(options: TestStoreOptions): Promise<TestStore> {
  if (options.file !== true) return await prepare('sqlite::memory:', options, async () => {});
  const folder = await mkdtemp(join(tmpdir(), 'vpn-db-'));
  return await prepare(`sqlite:${join(folder, 'test.db')}`, options, () =>
    rm(folder, { recursive: true, force: true }),
  );
}

async function openPostgresStore(options: TestStoreOptions): Promise<TestStore> {
  const template = options.empty === true ? 'template0' : setting('TEST_DATABASE_TEMPLATE');
  const name = `vpn_test_${randomBytes(6).toString('hex')}`;
  // Copying files takes half the time of copying them through the log, which a server without fsync does not miss.
  await onServer(`create database ${name} template ${template} strategy file_copy`);
  const url = new URL(setting('TEST_DATABASE_URL'));
  url.pathname = `/${name}`;
  // Tests of one file run one after another, but several files and stores share the server's connections.
  return await prepare(url.href, { poolSize: 8, ...options }, () =>
    onServer(`drop database if exists ${name} with (force)`),
  );
}

async function prepare(url: string, options: TestStoreOptions, remove: () => Promise<void>): Promise<TestStore> {
  const store = await openStore(url, { ...options, afterClose: remove });
  try {
    if (options.empty !== true) await store.migrate();
    return Object.assign(store, { url });
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: setting('TEST_DATABASE_URL') });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined)
    throw new Error(`${name} is not set: use vitestPreset({ postgres: true }) in vitest.config.ts`);
  return value;
}

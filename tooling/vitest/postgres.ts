import { randomBytes } from 'node:crypto';
import { openStore } from '../../packages/db/src/store.ts';
import { onServer, startServer } from './postgres-server.ts';

/**
 * vitest globalSetup: one real PostgreSQL for the whole run, in `TEST_DATABASE_URL`, with a migrated database that test
 * stores copy, in `TEST_DATABASE_TEMPLATE`. A `TEST_DATABASE_URL` from outside is used as it is: a role that may create
 * databases is all it needs.
 */
export async function setup(): Promise<void> {
  // Each package of one run calls this; the first call serves them all.
  if (process.env.TEST_DATABASE_TEMPLATE !== undefined) return;
  const given = process.env.TEST_DATABASE_URL;
  const server = given === undefined ? await startServer() : { url: given, stop: async () => {} };
  const template = `vpn_template_${randomBytes(4).toString('hex')}`;
  try {
    await createTemplate(server.url, template);
  } catch (error) {
    await server.stop();
    throw error;
  }
  process.env.TEST_DATABASE_URL = server.url;
  process.env.TEST_DATABASE_TEMPLATE = template;
  finish = async () => {
    if (given !== undefined) await onServer(given, `drop database if exists ${template}`);
    await server.stop();
  };
}

export async function teardown(): Promise<void> {
  await finish();
}

let finish = async (): Promise<void> => {};

async function createTemplate(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, `create database ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await using store = await openStore(url.href, { poolSize: 1 });
  await store.migrate();
}

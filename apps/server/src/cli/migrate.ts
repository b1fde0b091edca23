import { openStore } from '@vpn-api/db';

/** Applies what is pending and prints it. Safe to run on several machines at once. */
export async function migrate(url: string): Promise<void> {
  await using store = await openStore(url);
  await store.checkSchema();
  const { applied } = await store.migrate();
  const text =
    applied.length === 0 ? 'The database is up to date.' : applied.map((name) => `applied ${name}`).join('\n');
  process.stdout.write(`${text}\n`);
}

import { parseArgs } from 'node:util';
import { openStore } from '@vpn-api/db';
import type { Difference } from '../domain/books.ts';
import { DomainError } from '../domain/errors.ts';
import { recomputeUser } from '../ops/recompute-user.ts';

/**
 * `recompute --user ID [--fix]`: derives a user's subscription from payments, refunds and events, and prints where the
 * stored columns differ. Answers 1 when a difference is left.
 */
export async function runRecompute(url: string, args: readonly string[]): Promise<number> {
  const options = { user: { type: 'string' }, fix: { type: 'boolean', default: false } } as const;
  const { values } = parseArgs({ args: [...args], options });
  const userId = Number(values.user);
  if (!Number.isSafeInteger(userId) || userId <= 0) throw new Error('Say which user: recompute --user ID [--fix]');
  await using store = await openStore(url);
  await store.checkSchema();
  const { differences, remaining } = await recomputeUser(store, { userId, fix: values.fix }).catch((error: unknown) => {
    throw error instanceof DomainError ? new Error(`There is no user ${userId}.`) : error;
  });
  process.stdout.write(differences.length === 0 ? 'Stored and derived state agree.\n' : differences.map(line).join(''));
  if (values.fix) process.stdout.write(`${differences.length - remaining.length} differences were fixed.\n`);
  return remaining.length === 0 ? 0 : 1;
}

function line({ row, column, stored, derived }: Difference): string {
  return `${row}.${column}: stored ${JSON.stringify(stored)}, derived ${JSON.stringify(derived)}\n`;
}

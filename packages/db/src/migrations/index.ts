import type { ColumnTokens } from '../dialect.ts';
import { initial } from './0001-initial.ts';
import { hostsAndMoney } from './0002-hosts-and-money.ts';

/**
 * One step of the schema. A step that was released is never edited: expand in one, contract in a later one, so that the
 * version before it still runs beside it.
 */
export interface Migration {
  /** Number and purpose; recorded in the database. */
  readonly name: string;
  readonly statements: (tokens: ColumnTokens) => readonly string[];
}

/** All steps in order. A static list, so that a bundle needs no folder to read. */
export const migrations: readonly Migration[] = [initial, hostsAndMoney];

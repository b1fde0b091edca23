export interface ColumnComment {
  readonly table: string;
  readonly column: string;
  readonly text: string;
}

/**
 * The `-- …` remarks behind the columns of a `create table`. SQLite keeps them in the text it stores; for PostgreSQL they
 * become catalog comments, so that both show the same words to whoever opens the database by hand.
 */
export function commentsOf(statement: string): ColumnComment[] {
  const table = /^\s*create table (\w+)/.exec(statement)?.[1];
  if (table === undefined) return [];
  const lines = statement.matchAll(/^\s+(\w+) [^\n]*?-- (.+)$/gm);
  return Array.from(lines, ([, column = '', text = '']) => ({ table, column, text: text.trim() }));
}

export interface ColumnComment {
  readonly table: string;
  readonly column: string;
  readonly text: string;
}

/**
 * The `-- …` remarks behind the columns of a `create table`, or behind an `alter table … add column`. SQLite keeps the
 * first in the text it stores; for PostgreSQL they become catalog comments, so that whoever opens the database by hand
 * sees them.
 */
export function commentsOf(statement: string): ColumnComment[] {
  const table = /^\s*create table (\w+)/.exec(statement)?.[1];
  if (table === undefined) return addedColumn(statement);
  const lines = statement.matchAll(/^\s+(\w+) [^\n]*?-- (.+)$/gm);
  return Array.from(lines, ([, column = '', text = '']) => ({ table, column, text: text.trim() }));
}

function addedColumn(statement: string): ColumnComment[] {
  const [, table, column, text] = /^alter table (\w+) add column (\w+) .*? -- (.+)$/.exec(statement) ?? [];
  if (table === undefined || column === undefined || text === undefined) return [];
  return [{ table, column, text: text.trim() }];
}

/** The statement as it is run: SQLite would copy a remark behind an added column into the table's text, and swallow its end. */
export function withoutAddedRemark(statement: string): string {
  return /^alter table \w+ add column /.test(statement) ? statement.replace(/ -- .+$/, '') : statement;
}

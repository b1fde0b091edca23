import { type Expression, type RawBuilder, type SelectQueryBuilder, sql } from 'kysely';
import type { DialectHelpers } from '../dialect.ts';
import type { DB } from '../schema.generated.ts';

/** Part of a list that is ordered by id. */
export interface Page {
  /** Rows passed over. Default 0. */
  readonly skip?: number | undefined;
  /** Rows answered at most. Default 100. */
  readonly limit?: number | undefined;
  /** Only rows behind this id: stays fast, and right, on page 10 000. */
  readonly afterId?: number | undefined;
}

export const DEFAULT_LIMIT = 100;

/** One page of a list ordered by id. */
export function onPage<Table extends keyof DB, Row>(
  query: SelectQueryBuilder<DB, Table, Row>,
  { skip = 0, limit = DEFAULT_LIMIT, afterId = 0 }: Page,
): SelectQueryBuilder<DB, Table, Row> {
  const id = sql.ref<number>('id');
  return query.where(id, '>', afterId).orderBy(id).limit(limit).offset(skip);
}

/** How many rows a filter matches. */
export async function countOf<Table extends keyof DB>(query: SelectQueryBuilder<DB, Table, object>): Promise<number> {
  const counted = query.select((eb) => eb.fn.countAll<number>().as('total'));
  return ((await counted.executeTakeFirstOrThrow()) as { total: number }).total;
}

/** Rows of one bulk statement: both engines cap the number of parameters, at 32 766 and 65 535. */
export const CHUNK_ROWS = 500;

export function chunks<T>(rows: readonly T[], size = CHUNK_ROWS): T[][] {
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, index) =>
    rows.slice(index * size, (index + 1) * size),
  );
}

/** Drops the keys of a filter that were not given, for `eb.and({ … })`. */
export function given<T extends object>(filter: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(filter).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

export type BulkType = 'integer' | 'big' | 'instant' | 'text';

/**
 * `(values (…), (…))` with typed columns, to join a bulk update with. PostgreSQL takes untyped parameters in there for
 * text, hence the casts.
 */
export function bulkValues<Row extends object>(
  dialect: DialectHelpers,
  columns: Readonly<Record<string, BulkType>>,
  rows: readonly Row[],
): RawBuilder<unknown> {
  const types = columnTypes(dialect);
  const tuple = (row: Row): Expression<unknown> => {
    const cells = Object.entries(columns).map(
      ([name, type]) => sql`cast(${(row as Record<string, unknown>)[name]} as ${sql.raw(types[type])})`,
    );
    return sql`(${sql.join(cells)})`;
  };
  return sql`(values ${sql.join(rows.map(tuple))})`;
}

/**
 * The same as one parameter, several times faster to build and to parse: for statements that every pass over a host makes.
 * The rows hold nothing that others wrote, since JSON in PostgreSQL refuses text that is broken.
 */
export function bulkRows<Row extends object>(
  dialect: DialectHelpers,
  columns: Readonly<Record<string, BulkType>>,
  rows: readonly Row[],
): RawBuilder<unknown> {
  const types = columnTypes(dialect);
  const cells = Object.values(columns).map((type, index) => `cast(value ->> ${index} as ${types[type]})`);
  const names = Object.keys(columns);
  const json = JSON.stringify(rows.map((row) => names.map((name) => (row as Record<string, unknown>)[name])));
  return sql`(select ${sql.raw(cells.join(', '))} from ${sql.raw(dialect.jsonElements)}(${json}))`;
}

function columnTypes({ tokens }: DialectHelpers): Readonly<Record<BulkType, string>> {
  return { text: 'text', integer: 'integer', big: tokens.big, instant: tokens.instant };
}

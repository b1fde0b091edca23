import { type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import { flagOf } from '../dialect.ts';
import type { TariffPrices, Tariffs } from '../schema.generated.ts';
import type { Queryable, Tx } from '../store.ts';
import { parseWords } from './json.ts';
import { chunks, countOf, DEFAULT_LIMIT, onPage, type Page } from './page.ts';

export type TariffRow = Selectable<Tariffs>;
export type NewTariff = Omit<Insertable<Tariffs>, 'id'>;
export type TariffPatch = Omit<Updateable<Tariffs>, 'id' | 'created_at'>;

export interface NewPrice {
  readonly currency: string;
  readonly amount_minor: number;
  /** Providers that may be paid this way; null: any. */
  readonly providers: readonly string[] | null;
}

export interface TariffPriceRow extends NewPrice {
  readonly id: number;
  readonly tariff_id: number;
  readonly position: number;
}

/** `prices` in order of position; the first is the one shown as the tariff's own. */
export type TariffWithPrices = TariffRow & { readonly prices: readonly TariffPriceRow[] };

export interface TariffFilter {
  readonly includeArchived?: boolean | undefined;
}

/** A taken name is a unique violation of `tariffs(name)`. */
export async function insertTariff(tx: Tx, tariff: NewTariff, prices: readonly NewPrice[]): Promise<TariffWithPrices> {
  const row = await tx.kysely.insertInto('tariffs').values(tariff).returningAll().executeTakeFirstOrThrow();
  return { ...row, prices: await insertPrices(tx, row.id, prices) };
}

export async function findTariff(q: Queryable, id: number): Promise<TariffWithPrices | undefined> {
  const row = await q.kysely.selectFrom('tariffs').selectAll().where('id', '=', id).executeTakeFirst();
  return row && (await withPrices(q, [row]))[0];
}

/** Keeps two edits of one tariff, or an edit and its removal, apart. */
export async function lockTariff(tx: Tx, id: number): Promise<TariffWithPrices | undefined> {
  const query = tx.kysely.selectFrom('tariffs').selectAll().where('id', '=', id).modifyEnd(tx.dialect.forDelete);
  const row = await query.executeTakeFirst();
  return row && (await withPrices(tx, [row]))[0];
}

/** Two queries, however many tariffs. */
export async function listTariffs(
  q: Queryable,
  filter: TariffFilter = {},
  page: Page = {},
): Promise<TariffWithPrices[]> {
  const rows = await onPage(matching(q, filter).selectAll(), page).execute();
  return await withPrices(q, rows);
}

export function countTariffs(q: Queryable, filter: TariffFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

/** Trials that can be started. */
export async function listTrialTariffs(q: Queryable): Promise<TariffWithPrices[]> {
  const rows = await matching(q, {}).selectAll().where('trial', '=', 1).orderBy('id').limit(DEFAULT_LIMIT).execute();
  return await withPrices(q, rows);
}

/** Unarchived tariffs on sale that cost exactly this: how older clients name what they buy. */
export async function findTariffsByPrice(
  q: Queryable,
  currency: string,
  amountMinor: number,
): Promise<TariffWithPrices[]> {
  const sold = q.kysely
    .selectFrom('tariff_prices')
    .select('tariff_id')
    .where('currency', '=', currency)
    .where('amount_minor', '=', amountMinor);
  const onSale = matching(q, {}).selectAll().where('trial', '=', 0).where('id', 'in', sold);
  const rows = await onSale.orderBy('id').limit(DEFAULT_LIMIT).execute();
  return await withPrices(q, rows);
}

/** Whether any payment or period, of whatever state, names the tariff: then it can be archived but not removed. */
export async function isTariffSold(q: Queryable, id: number): Promise<boolean> {
  const sold = flagOf(sql`exists (select 1 from payments where tariff_id = ${id})
    or exists (select 1 from subscription_periods where tariff_id = ${id})`);
  const { rows } = await sql<{ sold: number }>`select ${sold} as sold`.execute(q.kysely);
  return rows[0]?.sold === 1;
}

export async function updateTariffRow(tx: Tx, id: number, patch: TariffPatch): Promise<void> {
  await tx.kysely.updateTable('tariffs').set(patch).where('id', '=', id).execute();
}

export async function replacePrices(tx: Tx, tariffId: number, prices: readonly NewPrice[]): Promise<TariffPriceRow[]> {
  await tx.kysely.deleteFrom('tariff_prices').where('tariff_id', '=', tariffId).execute();
  return await insertPrices(tx, tariffId, prices);
}

/** With its prices. A tariff that was sold is a foreign key violation. */
export async function deleteTariff(tx: Tx, id: number): Promise<void> {
  await tx.kysely.deleteFrom('tariffs').where('id', '=', id).execute();
}

async function insertPrices(tx: Tx, tariffId: number, prices: readonly NewPrice[]): Promise<TariffPriceRow[]> {
  if (prices.length === 0) return [];
  const values = prices.map((price, position) => ({
    tariff_id: tariffId,
    position,
    currency: price.currency,
    amount_minor: price.amount_minor,
    providers: price.providers === null ? null : JSON.stringify(price.providers),
  }));
  const rows = await tx.kysely.insertInto('tariff_prices').values(values).returningAll().execute();
  return rows.map(parsePrice).sort((a, b) => a.position - b.position);
}

/** Every tariff has a price; one without was deleted between the two queries, and is left out. */
async function withPrices(q: Queryable, tariffs: readonly TariffRow[]): Promise<TariffWithPrices[]> {
  const prices: TariffPriceRow[] = [];
  for (const some of chunks(tariffs)) {
    const ids = some.map((tariff) => tariff.id);
    const query = q.kysely.selectFrom('tariff_prices').selectAll().where('tariff_id', 'in', ids).orderBy('position');
    prices.push(...(await query.execute()).map(parsePrice));
  }
  const byTariff = Map.groupBy(prices, (price) => price.tariff_id);
  return tariffs
    .map((tariff) => ({ ...tariff, prices: byTariff.get(tariff.id) ?? [] }))
    .filter(({ prices: own }) => own.length > 0);
}

function matching(q: Queryable, filter: TariffFilter) {
  const query = q.kysely.selectFrom('tariffs');
  return filter.includeArchived === true ? query : query.where('archived_at', 'is', null);
}

function parsePrice(row: Selectable<TariffPrices>): TariffPriceRow {
  return { ...row, providers: row.providers === null ? null : parseWords(row.providers) };
}

import type { Insertable, Selectable } from 'kysely';
import type { AuditLog } from '../schema.generated.ts';
import type { Queryable } from '../store.ts';
import { countOf, given, onPage, type Page } from './page.ts';

export type AuditRow = Selectable<AuditLog>;
export type NewAudit = Omit<Insertable<AuditLog>, 'id'>;

export interface AuditFilter {
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly target?: string | undefined;
  readonly at?: string | undefined;
  readonly since?: string | undefined;
}

/** In the transaction of what it reports: neither is there without the other. */
export async function insertAudit(q: Queryable, entry: NewAudit): Promise<void> {
  await q.kysely.insertInto('audit_log').values(entry).execute();
}

export function listAudit(q: Queryable, filter: AuditFilter = {}, page: Page = {}): Promise<AuditRow[]> {
  return onPage(matching(q, filter).selectAll(), page).execute();
}

export function countAudit(q: Queryable, filter: AuditFilter = {}): Promise<number> {
  return countOf(matching(q, filter));
}

function matching(q: Queryable, { actor, action, target, at, since }: AuditFilter) {
  const query = q.kysely.selectFrom('audit_log').where((eb) => eb.and(given({ actor, action, target, at })));
  return since === undefined ? query : query.where('at', '>=', since);
}

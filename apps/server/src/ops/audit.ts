import { insertAudit, type Tx } from '@vpn-api/db';

/** Who acts, and from where. */
export interface AuditSource {
  /** `user:5`, `key:2` or `public`. */
  readonly actor: string;
  readonly ip: string;
  readonly request_id: string;
}

export interface AuditEntry extends AuditSource {
  readonly at: string;
  /** `tariff.update`: the area and what was done there. */
  readonly action: string;
  /** `user:5`: kind and id of the row it was done to. */
  readonly target?: string | undefined;
  /** What a person needs to understand it later. Never secrets, and no personal data that a removal would have to find. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
}

/** Notes a change in the transaction that makes it: neither is there without the other. */
export async function audit(tx: Tx, { target, details, ...entry }: AuditEntry): Promise<void> {
  await insertAudit(tx, { ...entry, target: target ?? null, details: JSON.stringify(details ?? {}) });
}

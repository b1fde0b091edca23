import type { Tx } from '@vpn-api/db';
import type { AuditSource } from './audit.ts';

/** What a creating use case needs from its caller beside the input. */
export interface Committing<Row> {
  readonly source: AuditSource;
  /** Runs last in the transaction: what it stores is there exactly when the row is. */
  readonly beforeCommit: (tx: Tx, row: Row) => Promise<void>;
}

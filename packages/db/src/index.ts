export type { DialectHelpers, Engine } from './dialect.ts';
export { SchemaMismatchError, StoreMisuseError, StoreUnavailableError } from './errors.ts';
export * from './repos/api-keys.ts';
export * from './repos/audit-log.ts';
export * from './repos/foreign-peers.ts';
export * from './repos/host-peers.ts';
export * from './repos/idempotency-keys.ts';
export * from './repos/inspection.ts';
export * from './repos/outbox-events.ts';
export type { Page } from './repos/page.ts';
export * from './repos/payment-events.ts';
export * from './repos/payments.ts';
export * from './repos/peers.ts';
export * from './repos/period-ends.ts';
export * from './repos/refunds.ts';
export * from './repos/server-snapshot.ts';
export * from './repos/servers.ts';
export * from './repos/sessions.ts';
export * from './repos/settings.ts';
export * from './repos/subscription-periods.ts';
export * from './repos/tariffs.ts';
export * from './repos/traffic.ts';
export * from './repos/trial-claims.ts';
export * from './repos/users.ts';
export * from './repos/webhook-deliveries.ts';
export * from './repos/webhook-endpoints.ts';
export {
  type Database,
  isForeignKeyViolation,
  isUniqueViolation,
  openStore,
  type Queryable,
  Store,
  type StoreOptions,
  type Tx,
} from './store.ts';

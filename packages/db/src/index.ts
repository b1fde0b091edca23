export type { DialectHelpers, Engine } from './dialect.ts';
export { SchemaMismatchError, StoreMisuseError, StoreUnavailableError } from './errors.ts';
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

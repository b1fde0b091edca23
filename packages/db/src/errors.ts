/** The database cannot answer now: connection lost, pool exhausted, or its lock was held for the whole retry budget. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

/** The calling code is wrong: a query outlived its transaction, or the root handle was used inside a transaction. */
export class StoreMisuseError extends Error {
  override readonly name = 'StoreMisuseError';
}

/** The database's schema is not one that this version can serve; `message` tells the operator the way out. */
export class SchemaMismatchError extends Error {
  override readonly name = 'SchemaMismatchError';
  readonly reason: 'legacy' | 'newer';

  constructor(reason: 'legacy' | 'newer', message: string) {
    super(message);
    this.reason = reason;
  }
}

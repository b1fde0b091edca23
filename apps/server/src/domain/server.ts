/** A host that failed fewer times in a row than this may have had a bad minute. */
const ILL_AFTER_ATTEMPTS = 3;

export interface HealthFacts {
  readonly last_seen_at: string | null;
  /** Failures in a row. */
  readonly attempts: number;
  readonly retired_at: string | null;
}

/** Whether new peers may hope to be live on the host within seconds. */
export function isHealthy({ last_seen_at, attempts, retired_at }: HealthFacts): boolean {
  return last_seen_at !== null && attempts < ILL_AFTER_ATTEMPTS && retired_at === null;
}

import { performance } from 'node:perf_hooks';

export interface RateLimit {
  /** Calls allowed in one window; 0 switches the limit off. */
  readonly calls: number;
  readonly windowSeconds: number;
}

interface Bucket {
  /** Calls left, a fraction while it refills. */
  tokens: number;
  updatedMs: number;
}

/** Beyond this many callers the oldest are forgotten; a smaller bound would let an attacker with many addresses reset others. */
const MAX_BUCKETS = 50_000;

/**
 * Token buckets in memory, per process: `calls` at once, refilled evenly over the window. Behind several instances the
 * effective limit is the sum of theirs, which is enough against guessing and floods.
 */
export class RateLimiter {
  readonly #limits: ReadonlyMap<string, RateLimit>;
  readonly #buckets = new Map<string, Bucket>();
  readonly #nowMs: () => number;

  constructor(limits: ReadonlyMap<string, RateLimit>, nowMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#nowMs = nowMs;
  }

  /** Takes one call from the bucket of `key`; answers 0, or the whole seconds to wait. */
  take(limitName: string, key: string): number {
    const limit = this.#limits.get(limitName) ?? this.#limits.get('default');
    if (limit === undefined || limit.calls === 0) return 0;
    const bucket = this.#refilled(`${limitName}:${key}`, limit);
    if (bucket.tokens < 1) return Math.max(1, Math.ceil(((1 - bucket.tokens) * limit.windowSeconds) / limit.calls));
    bucket.tokens -= 1;
    return 0;
  }

  #refilled(key: string, limit: RateLimit): Bucket {
    const nowMs = this.#nowMs();
    const known = this.#buckets.get(key);
    const bucket = known ?? { tokens: limit.calls, updatedMs: nowMs };
    const gained = ((nowMs - bucket.updatedMs) / 1000) * (limit.calls / limit.windowSeconds);
    bucket.tokens = Math.min(limit.calls, bucket.tokens + gained);
    bucket.updatedMs = nowMs;
    // Re-inserting keeps the map in order of use, so that the first key is the one to forget.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > MAX_BUCKETS) this.#forgetOldest();
    return bucket;
  }

  #forgetOldest(): void {
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined) this.#buckets.delete(oldest);
  }
}

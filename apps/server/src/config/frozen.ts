import { inspect } from 'node:util';

/** A map that nobody can change after its making; `Object.freeze` alone leaves a map's entries writable. */
export class FrozenMap<K, V> extends Map<K, V> {
  #sealed = false;

  constructor(entries: Iterable<readonly [K, V]>) {
    super();
    for (const [key, value] of entries) super.set(key, value);
    this.#sealed = true;
    Object.freeze(this);
  }

  override set(key: K, value: V): this {
    this.#refuse();
    return super.set(key, value);
  }

  override delete(key: K): boolean {
    this.#refuse();
    return super.delete(key);
  }

  override clear(): void {
    this.#refuse();
    super.clear();
  }

  #refuse(): void {
    if (this.#sealed) throw new TypeError('the configuration cannot be changed');
  }
}

/** A frozen map of secrets: prints its keys only. */
export class SecretMap<K, V> extends FrozenMap<K, V> {
  override toString(): string {
    return `[secrets of ${[...this.keys()].join(', ')}]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/** Freezes plain objects and arrays to their depth. Other objects (`Secrets`, maps) look after themselves. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && !Array.isArray(value)) return value;
  Object.freeze(value);
  Object.values(value).forEach(deepFreeze);
  return value;
}

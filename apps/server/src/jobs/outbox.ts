import { listWebhookEndpoints, releaseAllWebhookEndpoints } from '@vpn-api/db';
import { addSeconds, type Instant, minInstant } from '../domain/instant.ts';
import { type DeliverDeps, deliverToEndpoint } from '../ops/deliver-events.ts';
import { publishEvents } from '../ops/publish-events.ts';
import type { Services, Waker } from '../services.ts';
import { Loop } from './loop.ts';

/** For events that another process committed: only that one was woken by it. */
const INTERVAL_SECONDS = 5;
const ERROR_RETRY_SECONDS = 5;
/** More endpoints than anybody sets up. */
const MAX_ENDPOINTS = 1_000;

export type OutboxDeps = DeliverDeps & Pick<Services, 'config'>;

/**
 * Publishes what was committed and delivers it: one loop an endpoint, so that a receiver that hangs delays no other.
 */
export class OutboxLoops implements Waker, AsyncDisposable {
  readonly #deps: OutboxDeps;
  readonly #publisher: Loop;
  readonly #endpoints = new Map<number, Loop>();

  constructor(deps: OutboxDeps) {
    this.#deps = deps;
    const inSeconds = (seconds: number): Instant => addSeconds(deps.clock.now(), seconds);
    this.#publisher = new Loop({
      clock: deps.clock,
      run: async () => {
        await publishEvents(deps);
        await this.#wakeEndpoints();
        return inSeconds(INTERVAL_SECONDS);
      },
      onError: (error) => {
        deps.log.error({ err: error }, 'events could not be published');
        return inSeconds(ERROR_RETRY_SECONDS);
      },
    });
  }

  async start(): Promise<void> {
    const { config, store } = this.#deps;
    if (config.database.engine === 'sqlite') await releaseAllWebhookEndpoints(store);
    this.wake();
  }

  wake(): void {
    this.#publisher.wake();
  }

  /** Resolves when nothing runs or was woken; what waits for its time keeps waiting. */
  async idle(): Promise<void> {
    await this.#publisher.idle();
    await Promise.all([...this.#endpoints.values()].map((endpoint) => endpoint.idle()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#publisher[Symbol.asyncDispose]();
    await Promise.all([...this.#endpoints.values()].map((endpoint) => endpoint[Symbol.asyncDispose]()));
  }

  async #wakeEndpoints(): Promise<void> {
    for (const { id, disabled_at } of await listWebhookEndpoints(this.#deps.store, { limit: MAX_ENDPOINTS })) {
      if (disabled_at !== null) continue;
      const loop = this.#endpoints.get(id) ?? this.#add(id);
      loop.wake();
    }
  }

  #add(id: number): Loop {
    const { clock, log } = this.#deps;
    const idleUntil = (): Instant => addSeconds(clock.now(), 86_400);
    const loop = new Loop({
      clock,
      run: async (signal) => {
        const dueAt = await deliverToEndpoint(this.#deps, id, signal);
        return dueAt === undefined ? idleUntil() : minInstant(dueAt, idleUntil());
      },
      onError: (error) => {
        log.error({ err: error, endpoint: id }, 'events could not be delivered');
        return addSeconds(clock.now(), ERROR_RETRY_SECONDS);
      },
    });
    this.#endpoints.set(id, loop);
    return loop;
  }
}

import type { ServerRow, Store } from '@vpn-api/db';
import type { WgDriver } from '@vpn-api/wg';
import type { Config } from './config/config.ts';
import type { AccessTokens } from './crypto/access-tokens.ts';
import type { Passwords } from './crypto/passwords.ts';
import type { SecretBox } from './crypto/secret-box.ts';
import type { Instant } from './domain/instant.ts';
import type { RateLimiter } from './http/rate-limit.ts';
import type { Logger } from './obs/log.ts';
import type { Metrics } from './obs/metrics.ts';
import type { RejectionLog } from './obs/rejection-log.ts';
import type { Pass } from './ops/reconcile-server.ts';
import type { PaymentProvider } from './pay/provider.ts';

/** Time as an argument: tests move it, nothing else reads the system clock. */
export interface Clock {
  now(): Instant;
  /** Calls back once the time has come, soon if it is past; answers how to cancel. */
  at(time: Instant, callback: () => void): () => void;
}

/** Randomness as an argument. */
export interface Random {
  /** `length` unpredictable bytes. */
  bytes(length: number): Uint8Array;
}

/** Starts a background loop's next round now. Cheap, never fails, may be called often. */
export interface Waker {
  wake(): void;
}

/** The loops over hosts. */
export interface HostWaker extends Waker {
  /** Only the loops of these servers; without ids all of them. */
  wake(serverIds?: Iterable<number>): void;
}

/** Hosts as a request asks for them, beside the loops that keep them. */
export interface Hosts {
  /** The driver that the server's loop uses too. @throws DriverError for a row that names no host */
  driverFor(server: ServerRow): WgDriver;
  /** One compare now, as the only one to work on the host: `busy` when another process kept it for too long. */
  compare(serverId: number, consent: { readonly acceptedRemovals: number }): Promise<Pass>;
}

/** What one running server is made of. Use cases take the few of these that they use (`Pick<Services, …>`). */
export interface Services {
  readonly config: Config;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly passwords: Passwords;
  readonly accessTokens: AccessTokens;
  readonly secretBox: SecretBox;
  readonly rateLimiter: RateLimiter;
  readonly reconciler: HostWaker;
  readonly hosts: Hosts;
  /** Tries parked payment events again: a payment was made or settled that they may wait for. */
  readonly parkedEvents: Waker;
  /** Publishes and delivers outgoing events: one was written. */
  readonly outbox: Waker;
  /** Asks providers about payments and refunds whose time has come. */
  readonly paymentPolls: Waker;
  readonly providers: ReadonlyMap<string, PaymentProvider>;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly rejections: RejectionLog;
  /** Parts that must be alive for `/ready`: each answers undefined, or what is wrong in a few words. */
  readonly healthChecks: ReadonlyMap<string, () => Promise<string | undefined>>;
  readonly version: string;
  /** Made once for a database; part of the names of peers on hosts. */
  readonly installId: string;
}

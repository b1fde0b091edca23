import { AddressError } from '../address.ts';
import { ClientConfigError } from '../client-config.ts';
import {
  type ChangeResult,
  DriverError,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  type ReportedPeer,
  throwIfAborted,
  type WgDriver,
} from '../driver.ts';
import type { PublicKey } from '../keys.ts';
import { OutboundError, OutboundGuard } from '../outbound.ts';
import { Batch } from './batch.ts';
import { Connection } from './connection.ts';
import { HttpClient } from './http-client.ts';
import type { RemoteClient } from './protocol.ts';
import { Queue } from './queue.ts';
import { readReport } from './read-report.ts';

export interface WgEasyOptions {
  /** Where the page of wg-easy is, `http://10.0.0.5:51821`. */
  readonly url: string;
  /** Of version 15. Default `admin`. */
  readonly username?: string | undefined;
  /** Of the page. Needed unless there is an `apiKey`. */
  readonly password?: string | undefined;
  /**
   * For the Authorization header, when there is no password or the login fails: sent as it is to version 14, as the
   * password of Basic authorization to version 15. Slow, since the host hashes it with each request.
   */
  readonly apiKey?: string | undefined;
  /** Private ranges that may be called: a wg-easy in the LAN needs `10.0.0.0/8` or the like. Default: none. */
  readonly allowPrivate?: readonly string[] | undefined;
  /** Told what the driver had to repair or retry. The text holds no secret. */
  readonly log?: ((message: string) => void) | undefined;
  /** For one request. Default 15 s: a busy wg-easy takes seconds. */
  readonly requestMs?: number | undefined;
  /** Longer answers are not read. Default 16 MiB. */
  readonly maxAnswerBytes?: number | undefined;
}

const REQUEST_MS = 15_000;
/** Only of configurations: that is safe beside each other. */
const PARALLEL_READS = 6;
/** A client makes about 0.7 kB of a list. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/**
 * Drives a wg-easy 14 or 15 through the API of its page. The version is found out at the first call.
 *
 * ```ts
 * await using driver = openWgEasyDriver({ url: 'http://10.0.0.5:51821', password, allowPrivate: ['10.0.0.0/8'] });
 * const [result] = await driver.apply(
 *   [{ type: 'set', tag: 'phone', publicKey: null, presharedKey: null, addresses: [] }],
 *   AbortSignal.timeout(30_000),
 * );
 * ```
 *
 * @throws DriverError `refused` for a URL that must not be called, AddressError for a range that is none
 */
export function openWgEasyDriver(options: WgEasyOptions): WgEasyDriver {
  return new WgEasyDriver(options);
}

/**
 * wg-easy makes keys and addresses, and disables a client to suspend it. A peer's tag is the name of its client. Changes are
 * made one at a time: two at once corrupt the file of a v14 and leave disabled peers alive. That holds for one driver; who
 * runs several against one host must take care that only one is changing it.
 */
export class WgEasyDriver implements WgDriver {
  readonly kind = 'wg-easy';
  readonly keys = 'reported';
  readonly suspend = 'disable';
  readonly #http: HttpClient;
  readonly #connection: Connection;
  readonly #changes = new Queue();
  readonly #log: (message: string) => void;

  constructor(options: WgEasyOptions) {
    const { username = 'admin', password, apiKey, log = () => {} } = options;
    if (!password && !apiKey) throw new DriverError('refused', 'wg-easy needs a password or a key');
    if (apiKey !== undefined && !/^[\x21-\x7e]*$/.test(apiKey)) {
      throw new DriverError('refused', 'the key of wg-easy holds characters that no header can carry');
    }
    this.#log = log;
    const guard = new OutboundGuard(options.allowPrivate);
    this.#http = new HttpClient({
      origin: readOrigin(options.url, guard),
      guard,
      requestMs: options.requestMs ?? REQUEST_MS,
      maxBytes: options.maxAnswerBytes ?? MAX_ANSWER_BYTES,
    });
    const credentials = { username, password: password || undefined, apiKey: apiKey || undefined };
    this.#connection = new Connection(this.#http, credentials, log);
  }

  get version(): string | undefined {
    return this.#connection.version?.toString();
  }

  async describe(signal: AbortSignal): Promise<InterfaceDescription> {
    throwIfAborted(signal);
    const { protocol, clients } = await this.#connection.list(signal);
    return protocol.describe(clients, signal);
  }

  async list(signal: AbortSignal): Promise<ObservedPeer[]> {
    throwIfAborted(signal);
    const { clients } = await this.#connection.list(signal);
    return clients.map(toObservedPeer);
  }

  async apply(changes: readonly PeerChange[], signal: AbortSignal): Promise<ChangeResult[]> {
    throwIfAborted(signal);
    const context = { connection: this.#connection, signal, log: this.#log };
    return this.#changes.run(() => new Batch(changes, context).run(), signal);
  }

  async read(publicKeys: readonly PublicKey[], signal: AbortSignal): Promise<readonly ReportedPeer[]> {
    throwIfAborted(signal);
    const { protocol, clients } = await this.#connection.list(signal);
    const wanted = new Set(publicKeys);
    const waiting = clients.filter(({ publicKey }) => wanted.has(publicKey));
    const found: ReportedPeer[] = [];
    const work = async () => {
      for (let client = waiting.shift(); client !== undefined; client = waiting.shift()) {
        const report = await readUsable(client, protocol.configuration(client, signal));
        if (report !== undefined) found.push(report);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_READS }, work));
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http[Symbol.asyncDispose]();
  }
}

/** Somebody may have given a client a configuration that no client of ours would get, or a name that v14 stumbles over. */
async function readUsable(client: RemoteClient, config: Promise<string>): Promise<ReportedPeer | undefined> {
  try {
    return readReport(client, await config);
  } catch (error) {
    const isRefused = error instanceof DriverError && error.code === 'refused';
    if (isRefused || error instanceof ClientConfigError || error instanceof AddressError) return undefined;
    throw error;
  }
}

function readOrigin(text: string, guard: OutboundGuard): string {
  const url = checkUrl(text, guard);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new DriverError('refused', 'the URL of wg-easy is http(s)://host[:port], without a path');
  }
  return url.origin;
}

function checkUrl(text: string, guard: OutboundGuard): URL {
  try {
    return guard.check(text);
  } catch (cause) {
    if (!(cause instanceof OutboundError)) throw cause;
    throw new DriverError('refused', `the URL of wg-easy: ${cause.message}`, { cause });
  }
}

function toObservedPeer(client: RemoteClient): ObservedPeer {
  return {
    publicKey: client.publicKey,
    presharedKey: undefined,
    allowedIps: [...client.addresses, ...client.extraAddresses],
    // Disabled in the list and alive in WireGuard is not disabled.
    enabled: client.enabled || client.isLive,
    endpoint: client.endpoint,
    lastHandshakeAt: client.lastHandshakeAt,
    rxBytes: client.rxBytes,
    txBytes: client.txBytes,
    ...(client.name === null ? {} : { tag: client.name }),
  };
}

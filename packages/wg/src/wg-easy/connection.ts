import { DriverError } from '../driver.ts';
import { detectVersion } from './detect.ts';
import type { HttpClient } from './http-client.ts';
import type { RemoteClient, WgEasyProtocol } from './protocol.ts';
import { Queue } from './queue.ts';
import { Session } from './session.ts';
import { v14Auth, WgEasyV14 } from './v14.ts';
import { v15Auth, WgEasyV15 } from './v15.ts';

export interface WgEasyCredentials {
  /** Of v15. */
  readonly username: string;
  readonly password: string | undefined;
  readonly apiKey: string | undefined;
}

/** What a list answered, and the protocol that understood it. */
export interface Listing {
  readonly protocol: WgEasyProtocol;
  readonly clients: readonly RemoteClient[];
}

/** One wg-easy of a version that is found out, kept, and found out again when the answers stop fitting. */
export class Connection {
  readonly #http: HttpClient;
  readonly #credentials: WgEasyCredentials;
  readonly #log: (message: string) => void;
  readonly #detections = new Queue();
  #protocol: WgEasyProtocol | undefined;

  constructor(http: HttpClient, credentials: WgEasyCredentials, log: (message: string) => void) {
    this.#http = http;
    this.#credentials = credentials;
    this.#log = log;
  }

  /** undefined before the first answer. */
  get version(): 14 | 15 | undefined {
    return this.#protocol?.version;
  }

  /**
   * All clients. A list without any is asked for twice: to believe a wrong one means new keys for everybody.
   * @throws DriverError
   */
  async list(signal: AbortSignal): Promise<Listing> {
    const first = await this.#listOnce(signal);
    return first.clients.length > 0 ? first : this.#listOnce(signal);
  }

  async #listOnce(signal: AbortSignal): Promise<Listing> {
    const known = this.#protocol;
    const protocol = known ?? (await this.#detect(undefined, signal));
    try {
      return { protocol, clients: await protocol.list(signal) };
    } catch (error) {
      if (known === undefined || !isMisfit(error)) throw error;
      const found = await this.#detect(known, signal);
      if (found.version === known.version) throw error;
      this.#log(`wg-easy ${known.version} has become wg-easy ${found.version}`);
      return { protocol: found, clients: await found.list(signal) };
    }
  }

  #detect(doubted: WgEasyProtocol | undefined, signal: AbortSignal): Promise<WgEasyProtocol> {
    return this.#detections.run(async () => {
      if (this.#protocol !== undefined && this.#protocol !== doubted) return this.#protocol;
      const version = await detectVersion(this.#http, signal);
      if (this.#protocol?.version !== version) this.#protocol = this.#open(version);
      return this.#protocol;
    }, signal);
  }

  #open(version: 14 | 15): WgEasyProtocol {
    const scheme = version === 14 ? v14Auth(this.#http, this.#credentials) : v15Auth(this.#http, this.#credentials);
    const session = new Session(this.#http, scheme, this.#log);
    return version === 14 ? new WgEasyV14(session) : new WgEasyV15(session);
  }
}

/** What a wg-easy of another version would answer. */
function isMisfit(error: unknown): boolean {
  return error instanceof DriverError && ['bad_answer', 'refused', 'auth_failed'].includes(error.code);
}

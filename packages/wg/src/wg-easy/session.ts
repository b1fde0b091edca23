import { DriverError } from '../driver.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http-client.ts';
import { Queue } from './queue.ts';

/** What a request carries to be let in. */
export interface Admission {
  readonly kind: 'cookie' | 'header';
  readonly headers: Readonly<Record<string, string>>;
}

/** How one version lets people in. */
export interface AuthScheme {
  /** Logs in with the password; absent when there is none. @throws DriverError `auth_failed` */
  readonly login?: (signal: AbortSignal) => Promise<Admission>;
  /** For a login that failed: absent unless it was configured. */
  readonly header?: Admission;
  /** For a cookie that was given out and is not taken. */
  readonly lastResort?: Admission;
  /** Whether the answer means "not logged in", so that nothing was done. May ask the host. */
  isLockedOut(answer: HttpAnswer, admission: Admission, signal: AbortSignal): Promise<boolean>;
}

/**
 * Requests that need a login. Logs in once and keeps the cookie: a header costs the host a slow password hash with every
 * request. Logs in again when the host has forgotten the session, and asks once more.
 */
export class Session {
  readonly #http: HttpClient;
  readonly #scheme: AuthScheme;
  readonly #log: (message: string) => void;
  readonly #logins = new Queue();
  #admission: Admission | undefined;

  constructor(http: HttpClient, scheme: AuthScheme, log: (message: string) => void) {
    this.#http = http;
    this.#scheme = scheme;
    this.#log = log;
  }

  /** @throws DriverError, `auth_failed` among others */
  async send(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    const first = await this.#admit(undefined, signal);
    const answer = await this.#sendAs(first, request, signal);
    if (!(await this.#scheme.isLockedOut(answer, first, signal))) return answer;
    this.#log('the session has ended, logging in again');
    const second = await this.#admit(first, signal);
    // Done, failed at the end, and then started anew looks the same as not let in.
    if (request.isOnce) throw new DriverError('unknown_outcome', `${request.what}: the session ended meanwhile`);
    const again = await this.#sendAs(second, request, signal);
    if (!(await this.#scheme.isLockedOut(again, second, signal))) return again;
    return this.#sendAsLastResort(request, second, signal);
  }

  async #sendAsLastResort(request: HttpRequest, tried: Admission, signal: AbortSignal): Promise<HttpAnswer> {
    const { lastResort } = this.#scheme;
    this.#forget(tried);
    if (lastResort === undefined || tried.kind === 'header') throw lockedOut();
    this.#log('the cookie is not taken, using the Authorization header');
    const answer = await this.#sendAs(lastResort, request, signal);
    if (await this.#scheme.isLockedOut(answer, lastResort, signal)) throw lockedOut();
    this.#admission = lastResort;
    return answer;
  }

  #sendAs(admission: Admission, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    return this.#http.send({ ...request, headers: { ...request.headers, ...admission.headers } }, signal);
  }

  /** The admission that is in use, or a new one when `refused` is that. */
  #admit(refused: Admission | undefined, signal: AbortSignal): Promise<Admission> {
    this.#forget(refused);
    if (this.#admission !== undefined) return Promise.resolve(this.#admission);
    return this.#logins.run(async () => {
      this.#admission ??= await this.#logIn(signal);
      return this.#admission;
    }, signal);
  }

  #forget(refused: Admission | undefined): void {
    if (refused !== undefined && this.#admission === refused) this.#admission = undefined;
  }

  async #logIn(signal: AbortSignal): Promise<Admission> {
    const { login, header } = this.#scheme;
    try {
      if (login !== undefined) return await login(signal);
    } catch (error) {
      const isRefused = error instanceof DriverError && error.code === 'auth_failed';
      if (!isRefused || header === undefined) throw error;
      this.#log('the login failed, using the Authorization header');
    }
    if (header === undefined) throw new DriverError('auth_failed', 'neither a password nor a key is configured');
    // A copy: each login makes an admission of its own, so that a refused one is told from its successor.
    return { ...header };
  }
}

function lockedOut(): DriverError {
  return new DriverError('auth_failed', 'wg-easy does not take the login');
}

/** The value of one cookie among Set-Cookie lines. */
export function findCookie(answer: HttpAnswer, name: string): string | undefined {
  const line = answer.cookies.find((cookie) => cookie.startsWith(`${name}=`));
  const value = line?.slice(name.length + 1).split(';', 1)[0];
  return value === undefined || !/^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,4096}$/.test(value) ? undefined : value;
}

import { isVpnApiError, toVpnApiError, VpnApiError } from './errors.ts';
import type { SessionTokens, TokenStorage } from './storage.ts';

/** Tokens as the server sends them; `expires_in` and `refresh_expires_in` are seconds. */
export interface TokensAnswer {
  readonly access_token: string;
  readonly expires_in: number;
  readonly refresh_token: string;
  readonly refresh_expires_in: number;
}

export interface Credentials {
  readonly email: string;
  readonly password: string;
}

/** Signing in and out; `api.$session`. Refreshing needs no call: the client does it when it is due. */
export interface VpnApiSession {
  /** Logs in and keeps the tokens. Rejects with `invalid_credentials` and leaves a former session as it was. */
  signIn(credentials: Credentials): Promise<SessionTokens>;
  /** Keeps tokens that another call brought, such as `auth.telegram` or `auth.loginWithCode`. */
  adopt(answer: TokensAnswer): Promise<SessionTokens>;
  /**
   * Ends the session on the server (`all`: every session of the user) and forgets the tokens. They are forgotten even
   * when the server cannot be told; then it rejects.
   */
  signOut(options?: { readonly all?: boolean }): Promise<void>;
  /** What is stored; undefined when signed out. */
  tokens(): Promise<SessionTokens | undefined>;
  /** Refreshes now. Shares a refresh that is already under way. */
  refresh(): Promise<SessionTokens>;
}

/** The three calls that a session makes of the server. */
export interface AuthCalls {
  login(credentials: Credentials): Promise<TokensAnswer>;
  refresh(refreshToken: string): Promise<TokensAnswer>;
  logout(all: boolean): Promise<unknown>;
}

export interface SessionOptions {
  readonly storage: TokenStorage;
  readonly calls: AuthCalls;
  readonly now: () => number;
  readonly onSessionExpired: ((error: VpnApiError) => void) | undefined;
}

/** Refreshed this long before its end, so that a token does not expire on the way. */
const EARLY_MS = 30_000;

/** The server's word that a refresh token is worth nothing any more; anything else may pass. */
const REFUSED_STATUS: ReadonlySet<number | undefined> = new Set([400, 401, 403]);

export class Session implements VpnApiSession {
  readonly #options: SessionOptions;
  /** The one refresh in flight. */
  #renewal: Promise<SessionTokens | undefined> | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  async signIn(credentials: Credentials): Promise<SessionTokens> {
    return this.adopt(await this.#options.calls.login(credentials));
  }

  async adopt(answer: TokensAnswer): Promise<SessionTokens> {
    const tokens = this.#tokensOf(answer);
    await this.#afterRenewal(() => this.#options.storage.write(tokens));
    return tokens;
  }

  async signOut({ all = false }: { readonly all?: boolean } = {}): Promise<void> {
    if ((await this.tokens()) === undefined) return;
    try {
      await this.#options.calls.logout(all);
    } catch (error) {
      // Unknown to the server already: that is what was asked for.
      if (toVpnApiError(error).status !== 401) throw error;
    } finally {
      await this.#afterRenewal(() => this.#options.storage.clear());
    }
  }

  async tokens(): Promise<SessionTokens | undefined> {
    return this.#options.storage.read();
  }

  async refresh(): Promise<SessionTokens> {
    const tokens = await this.tokens();
    const renewed = tokens && (await this.#renew(tokens.accessToken));
    if (renewed === undefined) throw new VpnApiError({ code: 'not_authenticated', message: 'Nobody is signed in' });
    return renewed;
  }

  /** The access token to send now, refreshed first when it is about to end; undefined when signed out. */
  async accessToken(): Promise<string | undefined> {
    const tokens = await this.tokens();
    if (tokens === undefined) return undefined;
    const left = tokens.accessExpiresAt - this.#options.now();
    if (this.#renewal === undefined && left > EARLY_MS) return tokens.accessToken;
    try {
      return (await this.#renew(tokens.accessToken))?.accessToken;
    } catch (error) {
      if (left > 0 && !wasRefused(error)) return tokens.accessToken;
      throw error;
    }
  }

  /** The token to try once more with after the server refused `staleToken`; undefined when signed out meanwhile. */
  async replace(staleToken: string): Promise<string | undefined> {
    return (await this.#renew(staleToken))?.accessToken;
  }

  #renew(staleToken: string): Promise<SessionTokens | undefined> {
    this.#renewal ??= this.#locked(() => this.#renewUnlessDone(staleToken)).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #renewUnlessDone(staleToken: string): Promise<SessionTokens | undefined> {
    const tokens = await this.tokens();
    // A late refusal, or another tab was faster: what is stored is news already.
    if (tokens === undefined || tokens.accessToken !== staleToken) return tokens;
    try {
      const renewed = this.#tokensOf(await this.#options.calls.refresh(tokens.refreshToken));
      await this.#options.storage.write(renewed);
      return renewed;
    } catch (error) {
      if (wasRefused(error)) await this.#expire(toVpnApiError(error));
      throw error;
    }
  }

  async #expire(error: VpnApiError): Promise<void> {
    await this.#options.storage.clear();
    this.#options.onSessionExpired?.(error);
  }

  /** A refresh that ends after a sign-in or sign-out must not write its tokens over the outcome. */
  async #afterRenewal(change: () => void | Promise<void>): Promise<void> {
    await this.#renewal?.catch(() => undefined);
    await this.#locked(async () => change());
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    const { storage } = this.#options;
    return storage.withLock === undefined ? work() : storage.withLock(work);
  }

  #tokensOf(answer: TokensAnswer): SessionTokens {
    const now = this.#options.now();
    return {
      accessToken: answer.access_token,
      accessExpiresAt: now + answer.expires_in * 1000,
      refreshToken: answer.refresh_token,
      refreshExpiresAt: now + answer.refresh_expires_in * 1000,
    };
  }
}

function wasRefused(error: unknown): boolean {
  return isVpnApiError(error) && REFUSED_STATUS.has(error.status);
}

import { createTRPCClient, httpBatchLink, httpLink, splitLink, type TRPCClient, type TRPCLink } from '@trpc/client';
import type { AnyRouter } from '@trpc/server';
import { type CredentialSource, callLink, type SentContext, sentContextOf } from './call-link.ts';
import { UnexpectedAnswer, type VpnApiError } from './errors.ts';
import { ANONYMOUS_PROCEDURES, IDEMPOTENT_PROCEDURES, REPEATABLE_PROCEDURES } from './idempotent.ts';
import { type AuthCalls, Session, type TokensAnswer, type VpnApiSession } from './session.ts';
import { memoryStorage, type TokenStorage } from './storage.ts';

/** The server refuses more calls in one HTTP request. */
const MAX_BATCH_ITEMS = 10;
/** Some proxies cut longer addresses off; what does not fit goes into a further request. */
const MAX_URL_LENGTH = 2_048;

export interface RetryOptions {
  /** Repeats after the first attempt. Default 2. */
  readonly retries?: number;
  /** The first pause, doubled at each further one. Default 250 ms. */
  readonly baseDelayMs?: number;
  /** No pause is longer; a server that asks for more (`Retry-After`) is not asked again. Default 20 000 ms. */
  readonly maxDelayMs?: number;
}

export interface VpnApiClientOptions {
  /** Where the server is, such as `https://vpn.example.com`; the client adds `/trpc`. */
  readonly baseUrl: string | URL;
  /** A fixed access token, or a function that gives the current one. Never refreshed; excludes `apiKey` and `storage`. */
  readonly token?: string | (() => string | undefined | Promise<string | undefined>);
  /** An API key (`vpk_…`) of a bot or backend. Never refreshed; excludes `token` and `storage`. */
  readonly apiKey?: string;
  /** Where the tokens of `$session` are kept. Default: in memory. */
  readonly storage?: TokenStorage;
  /** Called once for each session that the server refuses to refresh; its tokens are gone by then. */
  readonly onSessionExpired?: (error: VpnApiError) => void;
  /** Default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch;
  /** For each attempt, in milliseconds. Default 30 000. */
  readonly timeoutMs?: number;
  /** A number of repeats, or finer. What is repeated is described in the README. */
  readonly retries?: number | RetryOptions;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | (() => Readonly<Record<string, string>>);
  /** Milliseconds since 1970; for tests. */
  readonly now?: () => number;
  /** 0 ≤ x < 1, spreads the pauses; for tests. */
  readonly random?: () => number;
}

/** The procedures in tRPC's shape, and `$session`. */
export type ApiClient<TRouter extends AnyRouter> = TRPCClient<TRouter> & { readonly $session: VpnApiSession };

/** Which paths are special; the defaults are those of the VPN API. */
export interface ProcedureLists {
  readonly idempotent?: readonly string[];
  readonly repeatable?: readonly string[];
  readonly anonymous?: readonly string[];
}

/** `createVpnApiClient` for any router, so that it can be tested against a small one. */
export function createApiClient<TRouter extends AnyRouter>(
  options: VpnApiClientOptions,
  lists: ProcedureLists = {},
): ApiClient<TRouter> {
  checkCredentials(options);
  const session = new Session({
    storage: options.storage ?? memoryStorage(),
    calls: authCalls(() => client as unknown as AuthProcedures),
    now: options.now ?? Date.now,
    onSessionExpired: options.onSessionExpired,
  });
  const credentials = credentialSource(options, session);
  const client = createTRPCClient<TRouter>({ links: linksFor<TRouter>(options, lists, credentials) });
  return withSession(client, session);
}

function checkCredentials({ token, apiKey, storage }: VpnApiClientOptions): void {
  const given = [token, apiKey, storage].filter((value) => value !== undefined);
  if (given.length > 1) throw new TypeError('Give one of token, apiKey and storage');
}

function credentialSource({ token, apiKey }: VpnApiClientOptions, session: Session): CredentialSource {
  if (token === undefined && apiKey === undefined) {
    return { token: () => session.accessToken(), replace: (refused) => session.replace(refused) };
  }
  return {
    token: async () => apiKey ?? (typeof token === 'function' ? token() : token),
    replace: async () => undefined,
  };
}

function linksFor<TRouter extends AnyRouter>(
  options: VpnApiClientOptions,
  lists: ProcedureLists,
  credentials: CredentialSource,
): TRPCLink<TRouter>[] {
  const guard = callLink<TRouter>({
    credentials,
    retry: retryPolicy(options),
    timeoutMs: options.timeoutMs ?? 30_000,
    idempotent: new Set(lists.idempotent ?? IDEMPOTENT_PROCEDURES),
    repeatable: new Set(lists.repeatable ?? REPEATABLE_PROCEDURES),
    anonymous: new Set(lists.anonymous ?? ANONYMOUS_PROCEDURES),
  });
  return [guard, transport<TRouter>(options)];
}

function retryPolicy({ retries, random = Math.random }: VpnApiClientOptions) {
  const given = typeof retries === 'number' ? { retries } : (retries ?? {});
  return { retries: 2, baseDelayMs: 250, maxDelayMs: 20_000, ...given, random };
}

/** Queries share requests; a mutation goes alone, since an `Idempotency-Key` is about one call. */
function transport<TRouter extends AnyRouter>(options: VpnApiClientOptions): TRPCLink<TRouter> {
  const shared = { url: trpcUrl(options.baseUrl), fetch: jsonFetch(options.fetch) };
  const headers = (sent: SentContext) => headersFor(options, sent);
  // The router is a type parameter here, so the compiler cannot know that it has no transformer.
  const batch = httpBatchLink<AnyRouter>({
    ...shared,
    maxItems: MAX_BATCH_ITEMS,
    maxURLLength: MAX_URL_LENGTH,
    // Calls of one tick may stand on both sides of a refresh; the last one has the newest token.
    headers: ({ opList }) => headers(sentContextOf(opList.at(-1) ?? opList[0])),
  });
  const single = httpLink<AnyRouter>({ ...shared, headers: ({ op }) => headers(sentContextOf(op)) });
  return splitLink({ condition: (op) => op.type === 'query', true: batch, false: single }) as TRPCLink<TRouter>;
}

function trpcUrl(baseUrl: string | URL): string {
  const url = new URL(baseUrl);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/trpc`;
  return url.href;
}

function headersFor({ headers }: VpnApiClientOptions, sent: SentContext): Record<string, string> {
  return {
    ...(typeof headers === 'function' ? headers() : headers),
    ...(sent.bearer === undefined ? {} : { authorization: `Bearer ${sent.bearer}` }),
    ...(sent.idempotencyKey === undefined ? {} : { 'idempotency-key': sent.idempotencyKey }),
  };
}

type Fetch = typeof globalThis.fetch;

/** The global is looked up at each call: test tools and polyfills may replace it after the client was made. */
function jsonFetch(custom: Fetch | undefined) {
  return async (url: RequestInfo | URL, init?: object): Promise<Response> => {
    const fetch: Fetch = custom ?? globalThis.fetch;
    const response = await fetch(url, init);
    if (isJson(response)) return response;
    await response.body?.cancel();
    throw new UnexpectedAnswer(response);
  };
}

function isJson(response: Response): boolean {
  return /^application\/(?:[\w.-]+\+)?json\b/i.test(response.headers.get('content-type') ?? '');
}

/** The part of the router that a session needs; by path, so that this file stays independent of the server. */
interface AuthProcedures {
  readonly auth: {
    readonly login: { mutate(input: object): Promise<TokensAnswer> };
    readonly refresh: { mutate(input: object): Promise<TokensAnswer> };
    readonly logout: { mutate(input: object): Promise<unknown> };
  };
}

function authCalls(client: () => AuthProcedures): AuthCalls {
  return {
    login: ({ email, password }) => client().auth.login.mutate({ email, password }),
    refresh: (refreshToken) => client().auth.refresh.mutate({ refresh_token: refreshToken }),
    logout: (all) => client().auth.logout.mutate(all ? { all } : {}),
  };
}

function withSession<TRouter extends AnyRouter>(client: TRPCClient<TRouter>, session: Session): ApiClient<TRouter> {
  return new Proxy(client, {
    get: (target, key, receiver) => (key === '$session' ? session : Reflect.get(target, key, receiver)),
  }) as ApiClient<TRouter>;
}

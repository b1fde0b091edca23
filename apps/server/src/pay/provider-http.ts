import { Agent, request as send } from 'undici';
import { ProviderError, type ProviderErrorKind } from './provider.ts';

export interface ProviderHttpOptions {
  /** Name of the provider, for error messages. */
  readonly name: string;
  /** Scheme, host and perhaps a path, without a slash at its end. May hold a secret: it is never printed. */
  readonly baseUrl: string;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ProviderRequest {
  readonly method: 'GET' | 'POST';
  /** Begins with a slash; parts that come from data are checked or encoded by the caller. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly json?: unknown;
  readonly form?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Statuses outside 2xx that are an answer to this request and no error, if they come with JSON. */
  readonly accept?: readonly number[];
}

export interface ProviderResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Parsed JSON. */
  readonly body: unknown;
  readonly raw: string;
}

export interface ProviderHttp {
  /**
   * One call, without redirects and without repeats of its own.
   * @throws ProviderError, and nothing else
   */
  request(request: ProviderRequest, signal: AbortSignal): Promise<ProviderResponse>;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Payment providers take seconds when a bank behind them does; a customer waits no longer than this. */
const ANSWER_TIMEOUT_MS = 15_000;
const TOTAL_TIMEOUT_MS = 20_000;
/** A page of a hundred objects stays below it; anything longer is not what we asked for. */
const MAX_BODY_BYTES = 1024 * 1024;

/**
 * A small HTTP client with connections of its own, so that one slow provider takes nothing from another. What cannot be
 * an answer becomes a {@link ProviderError} whose kind says whether the request may have had an effect.
 *
 * ```ts
 * const http = providerHttp({ name: 'stripe', baseUrl: 'https://api.stripe.com', headers: { authorization } });
 * const { body } = await http.request({ method: 'GET', path: `/v1/refunds/${id}` }, AbortSignal.timeout(10_000));
 * ```
 */
export function providerHttp({ name, baseUrl, headers }: ProviderHttpOptions): ProviderHttp {
  const dispatcher = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
    maxResponseSize: MAX_BODY_BYTES,
  });
  return {
    request: async (request, signal) => {
      const target = { name, url: `${baseUrl}${request.path}${queryOf(request.query)}`, headers, dispatcher };
      return judge(name, request, await exchange(target, request, signal));
    },
  };
}

/** For a status that the caller accepted and could not use after all. */
export function statusError(name: string, { method }: Pick<ProviderRequest, 'method'>, status: number): ProviderError {
  return new ProviderError(kindOfStatus(status, method), `${name}: ${method} was answered with ${status}`);
}

interface Target {
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly dispatcher: Agent;
}

type Exchange = Pick<ProviderResponse, 'status' | 'headers' | 'raw'>;

async function exchange(target: Target, request: ProviderRequest, signal: AbortSignal): Promise<Exchange> {
  const { name, url, headers, dispatcher } = target;
  const { method } = request;
  if (signal.aborted) throw new ProviderError('unavailable', `${name}: ${method} was given up before it was sent`);
  const [type, body] = bodyOf(request);
  try {
    const response = await send(url, {
      dispatcher,
      method,
      headers: { accept: 'application/json', ...type, ...headers, ...request.headers },
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(TOTAL_TIMEOUT_MS)]),
    });
    return { status: response.statusCode, headers: response.headers, raw: await response.body.text() };
  } catch (error) {
    // The cause is left out: errors of a client may quote the address, and an address may hold a token.
    throw new ProviderError(kindOfFailure(error, method), `${name}: ${method} failed (${codeOf(error)})`);
  }
}

function bodyOf({ json, form }: ProviderRequest): [Record<string, string>, string | undefined] {
  if (json !== undefined) return [{ 'content-type': 'application/json' }, JSON.stringify(json)];
  if (form === undefined) return [{}, undefined];
  return [{ 'content-type': 'application/x-www-form-urlencoded' }, new URLSearchParams(form).toString()];
}

function queryOf(query: ProviderRequest['query']): string {
  const given = Object.entries(query ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
}

function judge(name: string, request: ProviderRequest, { status, headers, raw }: Exchange): ProviderResponse {
  const { method, accept = [] } = request;
  const isAnswer = (status >= 200 && status < 300) || accept.includes(status);
  const body = parseJson(raw);
  if (isAnswer && body !== undefined) return { status, headers, body, raw };
  // A page of HTML was written by something in front of the provider, whatever its status says.
  const isForeign = body === undefined && (isAnswer || status < 500) && status !== 429;
  if (isForeign) throw new ProviderError(undecided(method), `${name}: ${method} was answered with no JSON (${status})`);
  throw statusError(name, request, status);
}

function parseJson(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    return undefined;
  }
}

function kindOfStatus(status: number, method: ProviderRequest['method']): ProviderErrorKind {
  if (status === 429) return 'unavailable';
  if (status >= 400 && status < 500 && status !== 408) return 'refused';
  return undecided(method);
}

/** Reading has no effect that could be in doubt. */
function undecided(method: ProviderRequest['method']): ProviderErrorKind {
  return method === 'GET' ? 'unavailable' : 'unknown';
}

/** What goes wrong before the first byte of the request is on its way. */
const BEFORE_SENDING =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|ERR_TLS_CERT_\w+|CERT_\w+|UNABLE_TO_\w+|(?:DEPTH_ZERO_)?SELF_SIGNED_\w+)$/;

function kindOfFailure(error: unknown, method: ProviderRequest['method']): ProviderErrorKind {
  return BEFORE_SENDING.test(codeOf(error)) ? 'unavailable' : undecided(method);
}

/** A word about the failure that cannot hold anything of the request. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'error';
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /^\w{1,60}$/.test(code) ? code : error.name;
}

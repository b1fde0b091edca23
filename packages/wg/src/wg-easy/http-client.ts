import { Agent, type Dispatcher } from 'undici';
import type { z } from 'zod';
import { DriverError, throwIfAborted } from '../driver.ts';
import { OutboundError, type OutboundGuard } from '../outbound.ts';

export interface HttpClientOptions {
  /** `http://10.0.0.5:51821` */
  readonly origin: string;
  readonly guard: OutboundGuard;
  /** For one request, answer included. */
  readonly requestMs: number;
  /** Longer answers are not read to their end. */
  readonly maxBytes: number;
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  /** Says in errors what was asked: no path, since paths hold ids. */
  readonly what: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  /** A request that changes nothing although it is a POST: a login. */
  readonly isRead?: boolean;
  /** A change that comes true once more when it is asked for once more: a create. */
  readonly isOnce?: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  /** The Set-Cookie lines. */
  readonly cookies: readonly string[];
  readonly text: string;
}

/** Reaching a host on any continent takes less; a host that is down must not hold up a pass. */
const CONNECT_MS = 5_000;
/** Node closes idle connections after 5 s. A request that meets the closing would end in an unknown outcome. */
const KEEP_ALIVE_MS = 3_500;

/**
 * One HTTP server, asked carefully: only addresses that the guard lets through, no redirects, answers limited in bytes and
 * in time. Throws DriverErrors, which hold nothing of what was sent or received.
 */
export class HttpClient implements AsyncDisposable {
  readonly #options: HttpClientOptions;
  readonly #agent: Agent;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#agent = new Agent({
      connect: options.guard.connector({ timeout: CONNECT_MS, allowH2: false }),
      connections: 8,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // The signal of each request covers both, to the millisecond.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /**
   * Resolves for every status but redirects.
   * @throws DriverError `unreachable`, `refused` (a forbidden address), `timeout`, `unknown_outcome`, `bad_answer`
   */
  async send(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    try {
      return await this.#sendOnce(request, signal);
    } catch (error) {
      // A kept connection that the host had closed already looks just like a host that dies: reads are asked again.
      if (!(error instanceof LostConnection) || !isRead(request)) throw error;
      return this.#sendOnce(request, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  async #sendOnce(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    throwIfAborted(signal);
    const limited = AbortSignal.any([signal, AbortSignal.timeout(this.#options.requestMs)]);
    try {
      const answer = await this.#agent.request({
        origin: this.#options.origin,
        path: request.path,
        method: request.method,
        headers: {
          accept: 'application/json, text/plain, application/octet-stream',
          ...(request.json === undefined ? {} : { 'content-type': 'application/json' }),
          ...request.headers,
        },
        body: request.json === undefined ? null : JSON.stringify(request.json),
        signal: limited,
      });
      return await this.#read(request, answer);
    } catch (error) {
      throw toDriverError(error, request, limited.aborted);
    }
  }

  async #read({ what }: HttpRequest, answer: Dispatcher.ResponseData): Promise<HttpAnswer> {
    const { statusCode: status, headers, body } = answer;
    // Destroying a body is an error to it, and one that nobody listens to ends the process.
    body.on('error', () => {});
    const problem = headerProblem(status, headers, this.#options.maxBytes);
    if (problem !== undefined) {
      body.destroy();
      throw new DriverError('bad_answer', `${what}: ${problem}`);
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    // Leaving the loop destroys the body, and the connection with it.
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > this.#options.maxBytes) throw new DriverError('bad_answer', `${what}: ${TOO_LONG}`);
      chunks.push(chunk);
    }
    return {
      status,
      contentType: single(headers['content-type']).toLowerCase(),
      cookies: [headers['set-cookie'] ?? []].flat(),
      text: Buffer.concat(chunks).toString('utf8'),
    };
  }
}

/**
 * Reads an answer with status 200 as JSON of one shape.
 * @throws DriverError `bad_answer`
 */
export function readJson<T>(what: string, answer: HttpAnswer, schema: z.ZodType<T>): T {
  // Causes are left out on purpose: parsers quote what they could not read.
  if (!/^application\/json\b/.test(answer.contentType)) throw unreadable(what);
  const result = schema.safeParse(parseJson(what, answer.text));
  if (!result.success) throw unreadable(what);
  return result.data;
}

export function unreadable(what: string): DriverError {
  return new DriverError('bad_answer', `${what}: the answer could not be read`);
}

function parseJson(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw unreadable(what);
  }
}

const TOO_LONG = 'the answer is too long';

function headerProblem(
  status: number,
  headers: Dispatcher.ResponseData['headers'],
  maxBytes: number,
): string | undefined {
  if (status >= 300 && status < 400) return 'the answer is a redirect, which is not followed';
  // Nothing was said about encodings, so nothing may be packed: 16 MB can unpack to gigabytes.
  if (!['', 'identity'].includes(single(headers['content-encoding']))) return 'the answer is compressed';
  return Number(single(headers['content-length'])) > maxBytes ? TOO_LONG : undefined;
}

function single(header: string | readonly string[] | undefined): string {
  return typeof header === 'string' ? header : (header?.[0] ?? '');
}

function isRead({ method, isRead: said }: HttpRequest): boolean {
  return said ?? method === 'GET';
}

/** The connection died after the request was sent, or while it was. */
class LostConnection extends DriverError {}

/** Nothing was sent yet when sockets fail with these. */
const NOT_CONNECTED: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
  'EPROTO',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

function toDriverError(error: unknown, request: HttpRequest, isAborted: boolean): DriverError {
  if (error instanceof DriverError) return error;
  const { what } = request;
  if (isAborted) return new DriverError('timeout', `${what}: no answer in time`, { cause: error });
  if (error instanceof OutboundError) return new DriverError('refused', `${what}: ${error.message}`, { cause: error });
  const code = (error as { code?: unknown } | null)?.code;
  const text = typeof code === 'string' ? code : 'no code';
  if (NOT_CONNECTED.has(code) || /^ERR_(?:TLS|SSL)/.test(text)) {
    return new DriverError('unreachable', `${what}: no connection (${text})`, { cause: error });
  }
  if (/^HPE_|^UND_ERR_(?:HEADERS_OVERFLOW|RES)/.test(text)) {
    return new DriverError('bad_answer', `${what}: the answer is not HTTP (${text})`);
  }
  return isRead(request)
    ? new LostConnection('unreachable', `${what}: the connection was lost while reading`, { cause: error })
    : new LostConnection('unknown_outcome', `${what}: the connection was lost (${text})`, { cause: error });
}

import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { describe, expect, test } from 'vitest';
import { startWgEasyStub, type WgEasyStub } from './stub.ts';

/** What a real wg-easy answered, in the order of asking. Keys are blotted out, long answers are cut and end with `…`. */
interface Records {
  readonly meta: { readonly server: string; readonly username?: string; readonly password: string };
  readonly exchanges: readonly Exchange[];
}

interface Exchange {
  readonly label: string;
  readonly request: {
    readonly method: string;
    readonly path: string;
    /** Whose cookie is sent: the one of `login ok`, or of a login outside of the records. */
    readonly session?: 'login ok' | 'another';
    readonly authorization?: string;
    readonly accept?: string;
    readonly contentType?: string;
    readonly body: string | null;
  };
  readonly response: {
    readonly status: number;
    readonly statusMessage: string;
    readonly contentType: string | null;
    readonly disposition?: string;
    readonly location?: string;
    readonly cookies: readonly string[];
    readonly body: string;
  };
}

interface Answer {
  readonly status: number;
  readonly statusMessage: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function readRecords(version: 14 | 15): Records {
  return JSON.parse(readFileSync(new URL(`./records-v${version}.json`, import.meta.url), 'utf8')) as Records;
}

describe.each([14, 15] as const)('the stub of wg-easy %i', (version) => {
  test('answers every recorded request as the real one did', async () => {
    const { meta, exchanges } = readRecords(version);
    await using stub = await startWgEasyStub({ version, password: meta.password });
    const replay = new Replay(stub);
    for (const exchange of exchanges) {
      const { label, response } = exchange;
      const answer = await replay.send(exchange);
      expect(described(answer), label).toEqual(describedRecord(response));
      expect(shapeOf(answer.body, response.body), label).toEqual(shapeOf(response.body, response.body));
    }
    expect(exchanges.length).toBeGreaterThan(80);
  });
});

/** Sends recorded requests to a stub, with its own cookies and ids in the place of the recorded ones. */
class Replay {
  readonly #stub: WgEasyStub;
  readonly #ids = new Map<string, string>();
  #cookie = '';
  #link = '';

  constructor(stub: WgEasyStub) {
    this.#stub = stub;
  }

  async send(exchange: Exchange): Promise<Answer> {
    const { label, request, response } = exchange;
    if (label.startsWith('create when')) await this.#fillPool();
    const answer = await call(this.#stub.url, {
      method: request.method,
      path: this.#translate(request.path),
      headers: {
        ...(request.session === undefined ? {} : { cookie: this.#cookie }),
        ...(request.authorization === undefined ? {} : { authorization: request.authorization }),
        ...(request.accept === undefined ? {} : { accept: request.accept }),
        ...(request.contentType === undefined ? {} : { 'content-type': request.contentType }),
      },
      body: request.body ?? '',
    });
    if (label === 'login ok') this.#cookie = firstCookie(answer);
    if (label === 'generateOneTimeLink')
      this.#link = this.#stub.clients().find((client) => client.oneTimeLink)?.oneTimeLink?.oneTimeLink ?? '';
    this.#learnIds(response.body, answer.body);
    return answer;
  }

  /** Recorded on a pool that 253 creates had filled. */
  async #fillPool(): Promise<void> {
    for (const { id } of this.#stub.clients()) this.#stub.delete(id);
    for (let n = 0; n < 253; n += 1) this.#stub.add(`fill ${n}`);
    const { password, url } = this.#stub;
    const headers = { 'content-type': 'application/json' };
    this.#cookie = firstCookie(
      await call(url, { method: 'POST', path: '/api/session', headers, body: JSON.stringify({ password }) }),
    );
  }

  #translate(path: string): string {
    return path
      .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, (id) => this.#ids.get(id) ?? id)
      .replace(/^\/cnf\/[0-9a-f]{8}$/, `/cnf/${this.#link}`);
  }

  /** Both list their clients in the same order. */
  #learnIds(recorded: string, answered: string): void {
    const idsOf = (text: string) => [...text.matchAll(/"id":"([0-9a-f-]{36})"/g)].map(([, id]) => id as string);
    const answeredIds = idsOf(answered);
    idsOf(recorded).forEach((id, at) => {
      if (answeredIds[at] !== undefined) this.#ids.set(id, answeredIds[at]);
    });
  }
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Without fetch, which would add headers that change the answers. */
function call(url: string, { method, path, headers, body }: Call): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const length = body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  const outgoing = httpRequest(`${url}${path}`, { method, headers: { ...headers, ...length } }, (incoming) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const { statusCode = 0, statusMessage = '' } = incoming;
      resolve({
        status: statusCode,
        statusMessage,
        headers: incoming.headers,
        body: Buffer.concat(chunks).toString('utf8'),
      });
    });
  });
  outgoing.on('error', reject);
  outgoing.end(body);
  return promise;
}

function firstCookie({ headers }: Answer): string {
  return headers['set-cookie']?.[0]?.split(';', 1)[0] ?? '';
}

function described({ status, statusMessage, headers }: Answer) {
  return {
    status,
    statusMessage: blotted(statusMessage),
    contentType: headers['content-type'] ?? null,
    disposition: blotted(headers['content-disposition'] ?? ''),
    location: headers.location ?? '',
    cookies: (headers['set-cookie'] ?? []).map((cookie) => cookie.split('=', 1)[0]),
  };
}

function describedRecord({ status, statusMessage, contentType, disposition, location, cookies }: Exchange['response']) {
  return {
    status,
    statusMessage: blotted(statusMessage),
    contentType,
    disposition: blotted(disposition ?? ''),
    location: location ?? '',
    cookies,
  };
}

function blotted(text: string): string {
  return text
    .replace(/[A-Za-z0-9+/]{43}=/g, 'KEY')
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UUID')
    .replace(/^(\/cnf\/)\w+$/, '$1LINK');
}

/** Fields and types of JSON; other text word for word, but for keys and ids. `record` says whether it was cut. */
function shapeOf(text: string, record: string): unknown {
  const isCut = record.endsWith('…');
  if (record.startsWith('<svg')) return text.slice(0, 4);
  if (record.startsWith('[{') && isCut) return fieldsOf(text).filter((field) => fieldsOf(record).includes(field));
  if (record.startsWith('{') && isCut) return text.slice(0, 12);
  if (isCut) return text.slice(0, record.length - 1);
  const parsed = parseJson(text);
  return parsed === undefined ? blotted(text) : typesOf(parsed);
}

/** Of the first item of a list that may be cut. */
function fieldsOf(list: string): string[] {
  const [first = ''] = list.split('},{', 1);
  return [...first.matchAll(/"(\w+)":/g)].map(([, field]) => field as string).toSorted();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function typesOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(typesOf);
  if (value === null || typeof value !== 'object') return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, typesOf(inner)]));
}

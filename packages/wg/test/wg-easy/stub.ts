import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import type { PrivateKey, PublicKey } from '../../src/keys.ts';
import type { Mutator, StubAnswer, StubApi, StubRequest } from './stub-api.ts';
import { type StubClient, type StubPeer, StubState } from './stub-state.ts';
import { StubV14 } from './stub-v14.ts';
import { StubV15, type StubV15Options } from './stub-v15.ts';

export type { StubClient, StubPeer } from './stub-state.ts';

export interface WgEasyStubOptions extends Partial<Omit<StubV15Options, 'password'>> {
  readonly version: 14 | 15;
  readonly password?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Every answer takes so long. */
  readonly latencyMs?: number;
  /** Clients that somebody made by hand: how many, or their names. */
  readonly clients?: number | readonly string[];
  /** Default `10.8.0.0/24`, as with a real one: 253 clients. */
  readonly pool?: string;
  /** Of {@link WgEasyStub.chaos}. */
  readonly seed?: number;
}

/**
 * - `drop`: the connection dies, nothing was done
 * - `work_then_drop`: it was done, then the connection dies
 * - `work_then_500`: it was done, and the answer is 500
 * - `error`: 500, nothing was done
 * - `gateway`: 502 of a proxy, nothing was done
 * - `hang`: no answer at all
 * - `drip`: an answer without end, byte by byte
 * - `huge`: an answer of 1 GB
 * - `html`: 200 and a page
 * - `redirect`: 302 to where clouds keep their credentials
 * - `silent`: 200 for a change that is not made
 * - `duplicate`: a create that is done twice
 * - `empty_list`: a list without clients
 * - `proto`: a list with `__proto__` for a key and for a name
 * - `restart`: the process was started again just before: sessions and connections are gone
 * - `work_then_restart`: it was done, the answer is 500, and the process is started again before the next request
 */
export type WgEasyFault =
  | 'drop'
  | 'work_then_drop'
  | 'work_then_500'
  | 'error'
  | 'gateway'
  | 'hang'
  | 'drip'
  | 'huge'
  | 'html'
  | 'redirect'
  | 'silent'
  | 'duplicate'
  | 'empty_list'
  | 'proto'
  | 'restart'
  | 'work_then_restart';

export interface WgEasyChaos {
  /** 0 … 1 */
  readonly reads: number;
  /** 0 … 1 */
  readonly changes: number;
  readonly faults: readonly WgEasyFault[];
}

export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
  readonly isMutation: boolean;
  readonly fault: WgEasyFault | null;
  /** undefined while it is under way, or when it was never answered. */
  status?: number;
}

/** Starts a wg-easy that answers as the recorded ones do, on a port of its own. */
export async function startWgEasyStub(options: WgEasyStubOptions): Promise<WgEasyStub> {
  const stub = new WgEasyStub(options);
  await stub.comeUp();
  return stub;
}

/**
 * A wg-easy of either version for tests: a real HTTP server with real keys and a pretended WireGuard. It keeps its state
 * while it is down, and shows what was asked of it:
 *
 * ```ts
 * await using stub = await startWgEasyStub({ version: 14, clients: 3 });
 * const driver = openWgEasyDriver({ url: stub.url, password: stub.password, allowPrivate: ['127.0.0.0/8'] });
 * stub.failNext('work_then_drop');
 * ```
 */
export class WgEasyStub implements AsyncDisposable {
  readonly username: string;
  readonly password: string;
  readonly requests: RecordedRequest[] = [];
  /** Befalls every request until it is set to null. */
  fault: WgEasyFault | null = null;
  latencyMs: number;
  /** The most changes that were ever under way at the same time. More than one breaks things, here as there. */
  maxConcurrentMutations = 0;
  readonly #options: WgEasyStubOptions;
  readonly #state: StubState;
  readonly #server: Server;
  readonly #next: { readonly fault: WgEasyFault; readonly only: (request: StubRequest) => boolean }[] = [];
  #chaos: ((kind: 'reads' | 'changes') => WgEasyFault | null) | null = null;
  #version: 14 | 15;
  #api: StubApi;
  #port = 0;
  #mutations = 0;
  #overlaps = false;

  constructor(options: WgEasyStubOptions) {
    this.#options = options;
    this.#version = options.version;
    this.username = options.username ?? 'admin';
    this.password = options.password ?? 'stub-password';
    this.latencyMs = options.latencyMs ?? 0;
    this.#port = options.port ?? 0;
    this.#state = new StubState(options.version, options.pool ?? '10.8.0.0/24');
    this.#api = this.#makeApi(options.version);
    this.#server = createServer((request, response) => void this.#serve(request, response));
    const { clients = 0 } = options;
    const names = typeof clients === 'number' ? Array.from({ length: clients }, (_, n) => `by hand ${n}`) : clients;
    for (const name of names) this.#state.create(name);
    this.#state.sync();
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get version(): 14 | 15 {
    return this.#version;
  }

  /** What clients have to connect to, and the key they have to expect. */
  get server(): { readonly publicKey: PublicKey; readonly endpoint: string } {
    return { publicKey: this.#state.server.publicKey, endpoint: this.#state.endpoint };
  }

  /** What an operator takes along to another host: `wg show wg0 private-key` in its container. */
  get privateKey(): PrivateKey {
    return this.#state.server.privateKey;
  }

  /** Whether v14 would find its table again after a restart. */
  get isFileCorrupt(): boolean {
    return this.#state.isFileCorrupt;
  }

  /** The table of clients. */
  clients(): StubClient[] {
    return [...this.#state.clients.values()];
  }

  named(name: string): StubClient[] {
    return this.clients().filter((client) => client.name === name);
  }

  /** What WireGuard really lets in. */
  peers(): PublicKey[] {
    return [...this.#state.peers.keys()];
  }

  mutations(): RecordedRequest[] {
    return this.requests.filter(({ isMutation }) => isMutation);
  }

  /** Somebody makes a client by hand. */
  add(name: unknown, address?: string): StubClient {
    const client = this.#state.create(name, address === undefined ? {} : { address });
    this.#state.sync();
    return client;
  }

  /** Somebody edits a client by hand. */
  edit(id: string, patch: Partial<StubClient>): void {
    Object.assign(this.#find(id), patch);
    this.#state.sync();
  }

  /** Somebody deletes a client by hand. */
  delete(id: string): void {
    this.#state.clients.delete(id);
    this.#state.sync();
  }

  /** A client was seen. */
  setTraffic(id: string, traffic: Partial<StubPeer>): void {
    Object.assign(this.#state.peers.get(this.#find(id).publicKey) ?? {}, traffic);
  }

  /** The next `times` requests, of those that `only` picks, fail so. */
  failNext(fault: WgEasyFault, times = 1, only: (request: StubRequest) => boolean = () => true): void {
    for (let n = 0; n < times; n += 1) this.#next.push({ fault, only });
  }

  /** From now on these shares of reads and of changes fail, each in the next of these ways. null ends it. */
  chaos(plan: WgEasyChaos | null): void {
    const random = mulberry32(this.#options.seed ?? 1);
    const next = { reads: 0, changes: 0 };
    this.#chaos =
      plan &&
      ((kind) => {
        if (random() >= plan[kind]) return null;
        next[kind] += 1;
        return plan.faults[next[kind] % plan.faults.length] ?? null;
      });
  }

  /** The process is started again, maybe as the other version on the same data. */
  restart(version: 14 | 15 = this.#version): void {
    this.#state.restart(version);
    if (version === this.#version) this.#api.forgetSessions();
    else this.#api = this.#makeApi(version);
    this.#version = version;
  }

  /** Nobody listens: connections are refused. */
  async goDown(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async comeUp(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.goDown();
  }

  #find(id: string): StubClient {
    const client = this.#state.clients.get(id);
    if (client === undefined) throw new Error('no such client');
    return client;
  }

  #makeApi(version: 14 | 15): StubApi {
    if (version === 14) return new StubV14(this.#state, { password: this.password });
    const { username, password } = this;
    return new StubV15(this.#state, {
      hasTotp: false,
      isSecure: false,
      isOffline: false,
      ignoresCookies: false,
      isPlainUser: false,
      ...this.#options,
      username,
      password,
    });
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await readRequest(incoming);
    const fault = this.#faultFor(request);
    const isMutation = isMutating(request);
    const { method, path, headers, body } = request;
    const recorded: RecordedRequest = { method, path, headers, body, isMutation, fault };
    this.requests.push(recorded);
    if (this.latencyMs > 0) await delay(this.latencyMs);
    if (fault !== null && misbehave(fault, response)) return;
    if (fault === 'restart') this.restart();
    if (fault === 'restart' || fault === 'drop') {
      response.destroy();
      return;
    }
    const answer = await this.#answer(request, { fault, isMutation });
    if (fault === 'work_then_drop') {
      response.destroy();
      return;
    }
    recorded.status = answer.status;
    send(response, answer);
  }

  async #answer(
    request: StubRequest,
    { fault, isMutation }: { readonly fault: WgEasyFault | null; readonly isMutation: boolean },
  ): Promise<StubAnswer> {
    if (fault === 'error') return this.#api.serverError(request);
    if (fault === 'silent' && isMutation) return silentAnswer(request);
    if (fault === 'duplicate' && isCreate(request)) await this.#api.handle(request, this.#mutate);
    const answer = await this.#api.handle(request, this.#mutate);
    if (fault === 'work_then_restart') this.restart();
    if (fault === 'work_then_500' || fault === 'work_then_restart') return this.#api.serverError(request);
    if (!isList(request) || answer.status !== 200) return answer;
    if (fault === 'empty_list') return { ...answer, body: '[]' };
    return fault === 'proto' ? { ...answer, body: polluted(answer.body) } : answer;
  }

  #faultFor(request: StubRequest): WgEasyFault | null {
    const at = this.#next.findIndex(({ only }) => only(request));
    if (at >= 0) return this.#next.splice(at, 1)[0]?.fault ?? null;
    return this.fault ?? this.#chaos?.(isMutating(request) ? 'changes' : 'reads') ?? null;
  }

  /** One change. Others under way at the same time make a mess of the sync, as measured on the real ones. */
  readonly #mutate: Mutator = async (kind, work) => {
    this.#mutations += 1;
    this.maxConcurrentMutations = Math.max(this.maxConcurrentMutations, this.#mutations);
    if (this.#mutations > 1) this.#overlaps = true;
    try {
      // Long enough for others to begin.
      await (this.latencyMs > 0 ? setImmediate() : delay(1));
      return this.#commit(kind, work);
    } finally {
      this.#mutations -= 1;
      if (this.#mutations === 0) this.#overlaps = false;
    }
  };

  #commit(kind: string, work: () => void): { ok: boolean; overlapped: boolean } {
    const overlapped = this.#overlaps;
    const before = new Map(overlapped ? this.#state.peers : []);
    work();
    try {
      this.#state.sync();
    } catch {
      return { ok: false, overlapped };
    }
    if (!overlapped || (kind !== 'disable' && kind !== 'delete')) return { ok: true, overlapped };
    if (this.#version === 14) this.#state.isFileCorrupt = true;
    this.#revive(before);
    // v14 says nothing; v15 says 500 and has changed its table.
    return { ok: this.#version === 14, overlapped };
  }

  /** Leaves peers alive that the sync took off: one or two of a v14, all of a v15. The next good sync takes them off. */
  #revive(before: ReadonlyMap<PublicKey, StubPeer>): void {
    const lost = [...before].filter(([key]) => !this.#state.peers.has(key));
    for (const [key, peer] of this.#version === 14 ? lost.slice(0, 2) : lost) this.#state.peers.set(key, peer);
  }
}

function isMutating({ method, path }: StubRequest): boolean {
  return method !== 'GET' && /^\/api\/(?:wireguard\/)?client/.test(path);
}

function isList({ method, path }: StubRequest): boolean {
  return method === 'GET' && /^\/api\/(?:wireguard\/)?client$/.test(path);
}

function isCreate({ method, path }: StubRequest): boolean {
  return method === 'POST' && /^\/api\/(?:wireguard\/)?client$/.test(path);
}

async function readRequest(incoming: IncomingMessage): Promise<StubRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const [path = '', query = ''] = (incoming.url ?? '').split('?');
  const headers = incoming.headers as Record<string, string | undefined>;
  return {
    method: incoming.method ?? '',
    path: decodeURIComponent(path),
    query: new URLSearchParams(query),
    headers,
    body: Buffer.concat(chunks).toString('utf8'),
  };
}

function send(response: ServerResponse, { status, statusMessage, headers, body }: StubAnswer): void {
  if (response.destroyed) return;
  const lines = headers.flat();
  if (statusMessage === undefined) response.writeHead(status, lines);
  else response.writeHead(status, statusMessage, lines);
  response.end(body);
}

/** Faults that never get as far as wg-easy. Answers whether it was one. */
function misbehave(fault: WgEasyFault, response: ServerResponse): boolean {
  switch (fault) {
    case 'hang':
      return true;
    case 'drip':
      drip(response);
      return true;
    case 'huge':
      pour(response);
      return true;
    case 'html':
      send(response, page(200, []));
      return true;
    case 'gateway':
      send(response, page(502, []));
      return true;
    case 'redirect':
      send(response, page(302, [['location', 'http://169.254.169.254/latest/meta-data/']]));
      return true;
    default:
      return false;
  }
}

function page(status: number, headers: StubAnswer['headers']): StubAnswer {
  const body = '<!DOCTYPE html><html><body>CANARY-PAGE</body></html>';
  return { status, headers: [['content-type', 'text/html'], ...headers], body };
}

function drip(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  const timer = setInterval(() => response.write(' '), 20);
  response.once('close', () => clearInterval(timer));
}

const HUGE_BYTES = 1024 ** 3;

function pour(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  const chunk = Buffer.alloc(1024 * 1024, ' ');
  let left = HUGE_BYTES;
  const more = () => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      if (!response.write(chunk)) {
        response.once('drain', more);
        return;
      }
    }
    response.end('[]');
  };
  more();
}

function silentAnswer(request: StubRequest): StubAnswer {
  const body =
    isCreate(request) && request.path === '/api/client' ? { success: true, clientId: 999_999 } : { success: true };
  return { status: 200, headers: [['content-type', 'application/json']], body: JSON.stringify(body) };
}

/** `JSON.parse` makes own properties of these, and careless copying makes prototypes of them. */
function polluted(list: string): string {
  const items = (JSON.parse(list) as Record<string, unknown>[]).map((item) => {
    const text = JSON.stringify(item);
    return `${text.slice(0, -1)},"__proto__":{"polluted":true,"enabled":false},"constructor":{"prototype":{"polluted":true}}}`;
  });
  return `[${items.join(',')}]`;
}

function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

import { randomBytes } from 'node:crypto';
import {
  jsonAnswer,
  type Mutator,
  parseBody,
  readCookie,
  type StubAnswer,
  type StubApi,
  StubHttpError,
  type StubRequest,
  SVG,
  textAnswer,
} from './stub-api.ts';
import type { StubClient, StubState } from './stub-state.ts';

const CLIENT = /^\/api\/wireguard\/client\/([^/]+)(?:\/([^/]+))?$/;
const DONE = jsonAnswer({ success: true });

/** wg-easy 14 as recorded: 500 for whoever is not logged in, and for most of what goes wrong. */
export class StubV14 implements StubApi {
  readonly #state: StubState;
  readonly #password: string;
  readonly #sessions = new Map<string, { isLoggedIn: boolean }>();

  constructor(state: StubState, { password }: { readonly password: string }) {
    this.#state = state;
    this.#password = password;
  }

  async handle(request: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    const known = this.#sessions.get(readCookie(request, 'connect.sid') ?? '');
    const session = known ?? { isLoggedIn: false };
    const answer = await this.#answer(request, session, mutate);
    if (known !== undefined) return answer;
    // Every stranger gets a session of his own.
    const id = `s%3A${randomBytes(24).toString('base64url')}`;
    this.#sessions.set(id, session);
    return { ...answer, headers: [...answer.headers, ['Set-Cookie', `connect.sid=${id}; Path=/; HttpOnly`]] };
  }

  serverError(): StubAnswer {
    return failure(500).answer;
  }

  forgetSessions(): void {
    this.#sessions.clear();
  }

  async #answer(request: StubRequest, session: { isLoggedIn: boolean }, mutate: Mutator): Promise<StubAnswer> {
    try {
      return await this.#route(request, session, mutate);
    } catch (error) {
      if (error instanceof StubHttpError) return error.answer;
      if (error instanceof SyntaxError) return failure(400, 'Bad Request').answer;
      return failure(500).answer;
    }
  }

  async #route(request: StubRequest, session: { isLoggedIn: boolean }, mutate: Mutator): Promise<StubAnswer> {
    const { method, path } = request;
    const open = this.#openRoute(request, session);
    if (open !== undefined) return open;
    const isAuthorized = session.isLoggedIn || request.headers.authorization === this.#password;
    if (path.startsWith('/api/') && !isAuthorized) throw failure(500);
    if (method === 'DELETE' && path === '/api/session') return this.#logOut(session);
    if (path === '/api/wireguard/client' && method === 'GET') return jsonAnswer(this.#list());
    if (path === '/api/wireguard/client' && method === 'POST') return this.#create(request, mutate);
    if (path === '/api/wireguard/backup' && method === 'GET') return this.#backup();
    const [, id, action] = CLIENT.exec(path) ?? [];
    const route = id === undefined ? undefined : await this.#clientRoute(request, { id, action }, mutate);
    if (route !== undefined) return route;
    if (method === 'GET') throw failure(404, `Cannot find static asset ${path}`);
    throw failure(405, 'Method Not Allowed');
  }

  #openRoute({ method, path, body }: StubRequest, session: { isLoggedIn: boolean }): StubAnswer | undefined {
    if (method === 'GET' && path === '/api/release') return jsonAnswer(14);
    if (method === 'GET' && path === '/api/lang') return jsonAnswer('C.UTF-8');
    if (path !== '/api/session') return undefined;
    if (method === 'GET') return jsonAnswer({ requiresPassword: true, authenticated: session.isLoggedIn });
    if (method !== 'POST') return undefined;
    const { password } = parseBody(body) as { password?: unknown };
    if (password !== this.#password) throw failure(401);
    session.isLoggedIn = true;
    return DONE;
  }

  #logOut(session: { isLoggedIn: boolean }): StubAnswer {
    for (const [id, one] of this.#sessions) if (one === session) this.#sessions.delete(id);
    return DONE;
  }

  async #clientRoute(
    request: StubRequest,
    { id, action }: { readonly id: string; readonly action: string | undefined },
    mutate: Mutator,
  ): Promise<StubAnswer | undefined> {
    const { method, body } = request;
    if (method === 'GET' && action === 'configuration') return this.#configuration(id);
    if (method === 'GET' && action === 'qrcode.svg') return this.#get(id) && textAnswer('image/svg+xml', SVG);
    if (method === 'DELETE' && action === undefined) return this.#delete(id, mutate);
    if (method === 'POST' && (action === 'enable' || action === 'disable')) {
      if (id === '__proto__' || id === 'constructor' || id === 'prototype') throw failure(403);
      return this.#change(id, { kind: action, work: (client) => (client.enabled = action === 'enable') }, mutate);
    }
    if (method !== 'PUT' || (action !== 'name' && action !== 'address')) return undefined;
    const value = (parseBody(body) as Record<string, unknown>)[action];
    if (action === 'address' && !looksLikeIpv4(value)) throw failure(400);
    const work = (client: StubClient) => Object.assign(client, { [action]: value });
    return this.#change(id, { kind: 'update', work }, mutate);
  }

  async #create({ body }: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    const { name } = parseBody(body) as { name?: unknown };
    if (!name) throw failure(500);
    const { ok } = await mutate('create', () => this.#state.create(name));
    if (!ok) throw failure(500);
    return DONE;
  }

  async #delete(id: string, mutate: Mutator): Promise<StubAnswer> {
    if (!this.#state.clients.has(id)) return DONE;
    const { ok } = await mutate('delete', () => this.#state.clients.delete(id));
    if (!ok) throw failure(500);
    return DONE;
  }

  async #change(
    id: string,
    { kind, work }: { readonly kind: 'enable' | 'disable' | 'update'; readonly work: (client: StubClient) => void },
    mutate: Mutator,
  ): Promise<StubAnswer> {
    const client = this.#get(id);
    const { ok } = await mutate(kind, () => {
      work(client);
      client.updatedAt = new Date();
    });
    if (!ok) throw failure(500);
    return DONE;
  }

  #get(id: string): StubClient {
    const client = this.#state.clients.get(id);
    if (client === undefined) throw failure(404);
    return client;
  }

  #list(): unknown[] {
    return [...this.#state.clients.values()].map((client) => {
      const peer = this.#state.peers.get(client.publicKey);
      return {
        id: client.id,
        name: client.name,
        enabled: client.enabled,
        address: client.address,
        publicKey: client.publicKey,
        createdAt: client.createdAt,
        updatedAt: client.updatedAt,
        downloadableConfig: true,
        persistentKeepalive: peer === undefined ? null : 'off',
        latestHandshakeAt: peer?.lastHandshakeAt ?? null,
        transferRx: peer?.rx ?? null,
        transferTx: peer?.tx ?? null,
      };
    });
  }

  #configuration(id: string): StubAnswer {
    // The lookup goes through the prototype of the table.
    if (id === 'constructor') return textAnswer('text/plain', this.#config(undefined), 'Object.conf');
    const client = this.#get(id);
    if (typeof client.name !== 'string') throw failure(500);
    const plain = client.name
      .replace(/[^a-zA-Z0-9_=+.-]/g, '-')
      .replace(/-{2,}|-$/g, '-')
      .replace(/-$/, '')
      .slice(0, 32);
    return textAnswer('text/plain', this.#config(client), `${plain || client.id}.conf`);
  }

  #config(client: StubClient | undefined): string {
    const { server, endpoint } = this.#state;
    const preshared = client === undefined ? '' : `PresharedKey = ${client.presharedKey}\n`;
    return (
      `\n[Interface]\nPrivateKey = ${client?.privateKey ?? 'REPLACE_ME'}\nAddress = ${client?.address}/24\nDNS = 1.1.1.1\n` +
      `\n[Peer]\nPublicKey = ${server.publicKey}\n${preshared}AllowedIPs = 0.0.0.0/0, ::/0\n` +
      `PersistentKeepalive = 0\nEndpoint = ${endpoint}`
    );
  }

  #backup(): StubAnswer {
    const clients = [...this.#state.clients.values()].map((client) => [
      client.id,
      {
        id: client.id,
        name: client.name,
        address: client.address,
        privateKey: client.privateKey,
        publicKey: client.publicKey,
        preSharedKey: client.presharedKey,
        createdAt: client.createdAt,
        updatedAt: client.updatedAt,
        enabled: client.enabled,
      },
    ]);
    const server = { ...this.#state.server, address: '10.8.0.1' };
    const text = JSON.stringify({ server, clients: Object.fromEntries(clients) }, null, 2);
    return textAnswer('text/json', text, 'wg0.json');
  }
}

/** Most errors say no more than their status. */
function failure(status: number, statusMessage?: string): StubHttpError {
  const said = statusMessage === undefined ? {} : { statusMessage };
  return new StubHttpError(jsonAnswer({ statusCode: status, ...said, stack: [] }, { status, ...said }));
}

/** As lenient as the original. */
function looksLikeIpv4(value: unknown): boolean {
  if (typeof value !== 'string') throw failure(500);
  const blocks = value.split('.');
  return blocks.length === 4 && blocks.every((block) => Number.parseInt(block, 10) <= 255);
}

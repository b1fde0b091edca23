import { randomBytes } from 'node:crypto';
import {
  isRecord,
  jsonAnswer,
  type MutationKind,
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

export interface StubV15Options {
  readonly username: string;
  readonly password: string;
  /** The second factor is asked for, or the one that was sent is wrong. */
  readonly hasTotp: boolean | 'INVALID_TOTP_CODE';
  /** Not INSECURE: cookies are for https. */
  readonly isSecure: boolean;
  /** GitHub cannot be reached. */
  readonly isOffline: boolean;
  /** A proxy in front eats cookies. */
  readonly ignoresCookies: boolean;
  /** The user sees clients and not the settings. */
  readonly isPlainUser: boolean;
}

const DONE = jsonAnswer({ success: true });
const CLIENT = /^\/api\/client\/([^/]+)(?:\/([^/]+))?$/;
const REQUIRED = [
  'name',
  'enabled',
  'expiresAt',
  'ipv4Address',
  'ipv6Address',
  'preUp',
  'postUp',
  'preDown',
  'postDown',
  'allowedIps',
  'serverAllowedIps',
  'firewallIps',
  'mtu',
  'jC',
  'jMin',
  'jMax',
  'i1',
  'i2',
  'i3',
  'i4',
  'i5',
  'persistentKeepalive',
  'serverEndpoint',
  'dns',
];

/** wg-easy 15 as recorded. */
export class StubV15 implements StubApi {
  readonly #state: StubState;
  readonly #options: StubV15Options;
  /** The cookies are sealed and hold all there is: they outlive a restart and a logout. */
  readonly #sealed = new Map<string, { isLoggedIn: boolean }>();
  readonly #general: Record<string, unknown> = {
    sessionTimeout: 3600,
    metricsPrometheus: false,
    metricsJson: false,
    metricsPassword: null,
  };

  constructor(state: StubState, options: StubV15Options) {
    this.#state = state;
    this.#options = options;
  }

  async handle(request: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    try {
      return await this.#route(request, mutate);
    } catch (error) {
      if (error instanceof StubHttpError) return error.answer;
      if (error instanceof SyntaxError) {
        return this.#failure(request, 400, { statusMessage: 'Bad Request', message: 'Invalid JSON body' }).answer;
      }
      return this.serverError(request);
    }
  }

  serverError(request: StubRequest): StubAnswer {
    return this.#failure(request, 500, { statusMessage: 'Server Error' }).answer;
  }

  forgetSessions(): void {}

  async #route(request: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    const open = this.#openRoute(request) ?? this.#metrics(request);
    if (open !== undefined) return open;
    if (!isKnown(request)) throw this.#pageNotFound(request);
    const cookie = this.#authorize(request);
    const answer = await this.#closedRoute(request, mutate);
    return cookie === undefined ? answer : { ...answer, headers: [...answer.headers, ['set-cookie', cookie]] };
  }

  #openRoute(request: StubRequest): StubAnswer | undefined {
    const { method, path } = request;
    if (method === 'GET' && path === '/api/information') return this.#information(request);
    if (method === 'GET' && path === '/api/auth/methods') {
      return jsonAnswer({ oauthEnabled: false, passwordDisabled: false, autoLaunchProvider: null });
    }
    if (method === 'GET' && path === '/api/session') return this.#session(request);
    if (method === 'DELETE' && path === '/api/session') {
      return jsonAnswer({ success: true }, { cookie: 'wg-easy=; Path=/; HttpOnly' });
    }
    if (method === 'POST' && path === '/api/auth/password') return this.#logIn(request);
    const [, link] = /^\/cnf\/([^/]+)$/.exec(path) ?? [];
    return link === undefined ? undefined : this.#oneTimeConfig(link);
  }

  #information(request: StubRequest): StubAnswer {
    if (this.#options.isOffline) {
      throw this.#failure(request, 500, { statusMessage: 'Failed to fetch latest release' });
    }
    const latestRelease = { version: 'v15.4.0', changelog: '' };
    const insecure = !this.#options.isSecure;
    const rest = { updateAvailable: false, insecure, isAwg: false, firewallEnabled: false };
    return jsonAnswer({ currentRelease: 'v15.4.0', latestRelease, ...rest });
  }

  #session(request: StubRequest): StubAnswer {
    if (!this.#hasSession(request)) {
      throw this.#failure(request, 401, { statusMessage: 'Not authenticated', cookie: this.#seal(false) });
    }
    const user = { id: 1, role: 1, username: this.#options.username, name: 'Administrator', email: null };
    return jsonAnswer({ ...user, totpVerified: false, oauthProvider: null, hasPassword: true });
  }

  #logIn(request: StubRequest): StubAnswer {
    const body = parseBody(request.body);
    const missing = ['username', 'password', 'remember'].filter(
      (field) => !isRecord(body) || body[field] === undefined,
    );
    if (!isRecord(body) || missing.length > 0) throw this.#invalid(request, required(missing));
    if (body.username !== this.#options.username || body.password !== this.#options.password) {
      const statusMessage = 'Invalid username or password';
      throw this.#failure(request, 401, { statusMessage, cookie: this.#seal(false) });
    }
    const { hasTotp } = this.#options;
    if (hasTotp) return jsonAnswer({ status: hasTotp === true ? 'TOTP_REQUIRED' : hasTotp });
    const maxAge = body.remember === true ? 'Max-Age=3600; ' : '';
    return jsonAnswer({ status: 'success' }, { cookie: this.#seal(true, maxAge) });
  }

  /** The cookie to give to somebody who has none. */
  #authorize(request: StubRequest): string | undefined {
    if (this.#hasSession(request)) return undefined;
    const { authorization } = request.headers;
    const fresh = this.#knows(request) ? undefined : this.#seal(false);
    const cookie = fresh === undefined ? {} : { cookie: fresh };
    if (authorization === undefined) {
      throw this.#failure(request, 401, { statusMessage: 'Session failed. No Authorization', ...cookie });
    }
    const [username, password] = readBasic(authorization) ?? [];
    if (!username || !password)
      throw this.#failure(request, 400, { statusMessage: 'Invalid Basic Authorization', ...cookie });
    const { username: user, password: secret, hasTotp } = this.#options;
    if (username !== user || password !== secret || hasTotp) {
      throw this.#failure(request, 401, { statusMessage: 'Session failed', ...cookie });
    }
    return fresh;
  }

  async #closedRoute(request: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    const { method, path, query } = request;
    if (path === '/api/client') return method === 'GET' ? jsonAnswer(this.#list(query)) : this.#create(request, mutate);
    if (path.startsWith('/api/admin/')) return this.#admin(request);
    const [, id = '', action] = CLIENT.exec(path) ?? [];
    if (!/^[0-9.]+$/.test(id)) throw this.#invalid(request, 'clientId is required');
    const client = this.#state.clients.get(id);
    if (method === 'GET') return this.#read(request, client, action);
    if (action === 'generateOneTimeLink') return this.#makeLink(client);
    if (method === 'DELETE')
      return this.#mutate(request, { kind: 'delete', work: () => this.#state.clients.delete(id) }, mutate);
    if (action === undefined) return this.#update(request, client, mutate);
    if (action === 'enable' && client !== undefined && isExpired(client)) {
      const statusMessage = 'Client is expired. Please update the expiration date first.';
      throw this.#failure(request, 422, { statusMessage });
    }
    const kind = action as 'enable' | 'disable';
    return this.#mutate(request, { kind, work: () => change(client, { enabled: kind === 'enable' }) }, mutate);
  }

  #read(request: StubRequest, client: StubClient | undefined, action: string | undefined): StubAnswer {
    if (action === 'qrcode.svg') return assertFound(client) && textAnswer('image/svg+xml', SVG);
    if (client === undefined) throw this.#failure(request, 404, { statusMessage: 'Client not found' });
    if (action === 'configuration') return this.#configuration(client);
    const peer = this.#state.peers.get(client.publicKey);
    return jsonAnswer({
      ...this.#show(client, sqlTime, true),
      ...(peer === undefined ? {} : { endpoint: peer.endpoint }),
    });
  }

  async #create(request: StubRequest, mutate: Mutator): Promise<StubAnswer> {
    const body = parseBody(request.body);
    const problem = createProblem(body);
    if (problem !== undefined) throw this.#invalid(request, problem);
    const { name, expiresAt } = body as { name: string; expiresAt: string | null };
    let clientId = 0;
    const work = () => {
      clientId = Number(this.#state.create(name, { expiresAt }).id);
    };
    await this.#mutate(request, { kind: 'create', work }, mutate);
    return jsonAnswer({ success: true, clientId });
  }

  async #update(request: StubRequest, client: StubClient | undefined, mutate: Mutator): Promise<StubAnswer> {
    const body = parseBody(request.body);
    const missing = REQUIRED.filter((field) => !isRecord(body) || body[field] === undefined);
    if (!isRecord(body) || missing.length > 0) throw this.#invalid(request, required(missing));
    const { name, enabled, expiresAt, ipv4Address, ipv6Address, serverAllowedIps, ...rest } = body;
    const address = String(ipv4Address);
    const others = [...this.#state.clients.values()].filter((other) => other !== client);
    if (!this.#state.isInPool(address) || others.some((other) => client && other.address === address))
      throw new Error();
    const known = Object.fromEntries(Object.entries(rest).filter(([field]) => REQUIRED.includes(field)));
    const work = () =>
      change(client, {
        name,
        enabled: enabled === true,
        expiresAt: expiresAt as string | null,
        address,
        ipv6Address: String(ipv6Address),
        serverAllowedIps: serverAllowedIps as string[],
        fields: known,
      });
    return this.#mutate(request, { kind: 'update', work }, mutate);
  }

  async #mutate(
    request: StubRequest,
    { kind, work }: { readonly kind: MutationKind; readonly work: () => void },
    mutate: Mutator,
  ): Promise<StubAnswer> {
    const { ok } = await mutate(kind, work);
    if (!ok) return this.serverError(request);
    return DONE;
  }

  #list(query: URLSearchParams): unknown[] {
    const filter = query.get('filter')?.toLowerCase() ?? '';
    const found = [...this.#state.clients.values()].filter(
      ({ name, address, ipv6Address }) =>
        filter === '' || [name, address, ipv6Address].some((text) => String(text).toLowerCase().includes(filter)),
    );
    const sign = query.get('sort') === 'desc' ? -1 : 1;
    const sorted = found.toSorted((a, b) => sign * compare(String(a.name), String(b.name)));
    return sorted.map((client) => {
      const peer = this.#state.peers.get(client.publicKey);
      return {
        ...this.#show(client, isoTime, false),
        oneTimeLink: client.oneTimeLink,
        latestHandshakeAt: peer?.lastHandshakeAt ?? null,
        endpoint: peer?.endpoint ?? null,
        transferRx: peer?.rx ?? null,
        transferTx: peer?.tx ?? null,
      };
    });
  }

  #show(client: StubClient, time: (date: Date) => string, withSecrets: boolean): Record<string, unknown> {
    const secrets = withSecrets ? { privateKey: client.privateKey, preSharedKey: client.presharedKey } : {};
    return {
      id: Number(client.id),
      userId: 1,
      interfaceId: 'wg0',
      name: client.name,
      ipv4Address: client.address,
      ipv6Address: client.ipv6Address,
      publicKey: client.publicKey,
      ...secrets,
      expiresAt: client.expiresAt,
      serverAllowedIps: client.serverAllowedIps,
      ...client.fields,
      enabled: client.enabled,
      createdAt: time(client.createdAt),
      updatedAt: time(client.updatedAt),
    };
  }

  #configuration(client: StubClient): StubAnswer {
    const { server, endpoint } = this.#state;
    const plain = String(client.name)
      .replace(/[^a-zA-Z0-9_=+.-]/g, '-')
      .replace(/-{2,}|-$/g, '-')
      .replace(/-$/, '');
    const text =
      `[Interface]\nPrivateKey = ${client.privateKey}\nAddress = ${client.address}/32, ${client.ipv6Address}/128\n` +
      `MTU = 1420\nDNS = 1.1.1.1\n\n[Peer]\nPublicKey = ${server.publicKey}\nPresharedKey = ${client.presharedKey}\n` +
      `AllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 0\nEndpoint = ${endpoint}`;
    return textAnswer('application/octet-stream', text, `${plain || client.id}.conf`);
  }

  #makeLink(client: StubClient | undefined): StubAnswer {
    const { id, oneTimeLink } = assertFound(client);
    const now = new Date();
    const link = oneTimeLink ?? {
      id: Number(id),
      oneTimeLink: randomBytes(4).toString('hex'),
      createdAt: sqlTime(now),
      updatedAt: sqlTime(now),
    };
    assertFound(client).oneTimeLink = { ...link, expiresAt: isoTime(new Date(now.getTime() + 300_000)) };
    return DONE;
  }

  #oneTimeConfig(link: string): StubAnswer {
    const client = [...this.#state.clients.values()].find((one) => one.oneTimeLink?.oneTimeLink === link);
    return client === undefined ? toLogin('Invalid One Time Link') : this.#configuration(client);
  }

  #admin(request: StubRequest): StubAnswer {
    const { path, method, body } = request;
    if (this.#options.isPlainUser) throw this.#failure(request, 403, { statusMessage: 'Forbidden' });
    const { server } = this.#state;
    const times = { createdAt: '2026-11-22 21:45:15', updatedAt: '2026-11-22 21:45:16' };
    if (path === '/api/admin/general') {
      if (method === 'GET') return jsonAnswer(this.#general);
      Object.assign(this.#general, parseBody(body));
      return DONE;
    }
    if (path === '/api/admin/interface') {
      const { publicKey } = server;
      const [s1, s2, s3, s4] = [128, 56, null, null];
      const h = { h1: '1893279887', h2: '1655048483', h3: '1122189987', h4: '522748290' };
      const i = { i1: null, i2: null, i3: null, i4: null, i5: null };
      const net = { ipv4Cidr: '10.8.0.0/24', ipv6Cidr: `${this.#state.ipv6Base}:0/112`, mtu: 1420 };
      const junk = { routingTable: 'auto', jC: 7, jMin: 10, jMax: 1000, s1, s2, s3, s4, ...h, ...i };
      const on = { enabled: true, firewallEnabled: false };
      return jsonAnswer({ name: 'wg0', device: 'eth0', port: 51820, publicKey, ...net, ...junk, ...on, ...times });
    }
    const junk = { defaultJC: 7, defaultJMin: 10, defaultJMax: 1000 };
    const i = { defaultI1: null, defaultI2: null, defaultI3: null, defaultI4: null, defaultI5: null };
    const [host, port] = this.#state.endpoint.split(':');
    const defaults = {
      defaultMtu: 1420,
      defaultPersistentKeepalive: 0,
      defaultDns: ['1.1.1.1'],
      defaultAllowedIps: ['0.0.0.0/0', '::/0'],
    };
    return jsonAnswer({ id: 'wg0', ...defaults, ...junk, ...i, host, port: Number(port), ...times });
  }

  #metrics({ method, path, headers }: StubRequest): StubAnswer | undefined {
    const kind = ({ '/metrics/prometheus': 'metricsPrometheus', '/metrics/json': 'metricsJson' } as const)[path];
    if (method !== 'GET' || kind === undefined) return undefined;
    if (this.#general[kind] !== true) return toLogin('Metrics not enabled');
    if (headers.authorization === undefined) return toLogin('Unauthorized');
    if (!headers.authorization.startsWith('Bearer ')) return toLogin('Bearer Auth required');
    if (headers.authorization.slice(7) !== this.#general.metricsPassword) return toLogin('Incorrect token');
    const clients = this.#list(new URLSearchParams()) as Record<string, unknown>[];
    const enabled = clients.filter((client) => client.enabled === true).length;
    if (kind === 'metricsPrometheus') return textAnswer('text/plain', prometheus(clients.length, enabled));
    const counts = { wireguard_configured_peers: clients.length, wireguard_enabled_peers: enabled };
    const shown = [
      'name',
      'enabled',
      'ipv4Address',
      'ipv6Address',
      'publicKey',
      'endpoint',
      'latestHandshakeAt',
      'transferRx',
      'transferTx',
    ];
    const rows = clients.map((client) => Object.fromEntries(shown.map((field) => [field, client[field]])));
    return jsonAnswer({ ...counts, wireguard_connected_peers: 0, clients: rows });
  }

  #hasSession(request: StubRequest): boolean {
    const session = this.#sealed.get(readCookie(request, 'wg-easy') ?? '');
    return session?.isLoggedIn === true && !this.#options.ignoresCookies;
  }

  #knows(request: StubRequest): boolean {
    return this.#sealed.has(readCookie(request, 'wg-easy') ?? '') && !this.#options.ignoresCookies;
  }

  #seal(isLoggedIn: boolean, attributes = ''): string {
    const value = `Fe26.2**${randomBytes(32).toString('hex')}*${randomBytes(24).toString('base64url')}`;
    this.#sealed.set(value, { isLoggedIn });
    return `wg-easy=${value}; ${attributes}Path=/; HttpOnly${this.#options.isSecure ? '; Secure' : ''}`;
  }

  #invalid(request: StubRequest, message: string): StubHttpError {
    return this.#failure(request, 400, { statusMessage: 'Validation Error', message, data: {} });
  }

  #pageNotFound(request: StubRequest): StubHttpError {
    const statusMessage = `Page not found: ${request.path}`;
    return this.#failure(request, 404, { statusMessage, data: { path: request.path }, cookie: LANGUAGE_COOKIE });
  }

  #failure(
    { path }: StubRequest,
    status: number,
    {
      cookie,
      statusMessage,
      message = statusMessage,
      data,
    }: { cookie?: string; statusMessage: string; message?: string; data?: unknown },
  ): StubHttpError {
    const url = `http://192.0.2.1:51821${path}`;
    const body = {
      error: true,
      url,
      statusCode: status,
      statusMessage,
      message,
      ...(data === undefined ? {} : { data }),
    };
    return new StubHttpError(jsonAnswer(body, { status, statusMessage, ...(cookie === undefined ? {} : { cookie }) }));
  }
}

const LANGUAGE_COOKIE = 'i18n_redirected=en; Path=/; SameSite=Lax';

function toLogin(statusMessage: string): StubAnswer {
  const body = '<!DOCTYPE html><html><head><meta http-equiv="refresh" content="0; url=/login"></head></html>';
  const headers = [
    ['content-type', 'text/html'],
    ['location', '/login'],
    ['set-cookie', LANGUAGE_COOKIE],
  ] as const;
  return { status: 302, statusMessage, headers, body };
}

function isKnown({ method, path }: StubRequest): boolean {
  if (path === '/api/client') return method === 'GET' || method === 'POST';
  if (path === '/api/admin/general') return method === 'GET' || method === 'POST';
  if (path === '/api/admin/interface' || path === '/api/admin/userconfig') return method === 'GET';
  const [, id, action] = CLIENT.exec(path) ?? [];
  if (id === undefined) return false;
  if (action === undefined) return ['GET', 'POST', 'DELETE'].includes(method);
  if (method === 'GET') return action === 'configuration' || action === 'qrcode.svg';
  return method === 'POST' && ['enable', 'disable', 'generateOneTimeLink'].includes(action);
}

function readBasic(authorization: string): [string, string] | undefined {
  const [, encoded] = /^Basic (.+)$/.exec(authorization) ?? [];
  const text = Buffer.from(encoded ?? '', 'base64').toString();
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : [text.slice(0, colon), text.slice(colon + 1)];
}

function createProblem(body: unknown): string | undefined {
  if (!isRecord(body)) return 'Invalid input: expected object, received undefined';
  const { name, expiresAt } = body;
  if (typeof name !== 'string') return 'name is required';
  if (name === '') return 'Name must be at least 1 Character';
  if (/[\n\r]|__proto__/.test(name)) return 'String is malformed';
  if (expiresAt !== null && typeof expiresAt !== 'string') return 'expiresAt is required';
  return expiresAt === '' ? 'Expires At must be at least 1 Character' : undefined;
}

function required(fields: readonly string[]): string {
  return fields.map((field) => `${field} is required`).join('; ');
}

function isExpired({ expiresAt }: StubClient): boolean {
  return expiresAt !== null && new Date(expiresAt).getTime() < Date.now();
}

function change(client: StubClient | undefined, patch: Partial<StubClient>): void {
  if (client !== undefined) Object.assign(client, patch, { updatedAt: new Date() });
}

function assertFound(client: StubClient | undefined): StubClient {
  if (client === undefined) throw new Error('no such client');
  return client;
}

function isoTime(date: Date): string {
  return `${date.toISOString().slice(0, 19)}.000Z`;
}

/** UTC without saying so. */
function sqlTime(date: Date): string {
  return date.toISOString().slice(0, 19).replace('T', ' ');
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

function prometheus(configured: number, enabled: number): string {
  const gauge = (name: string, value: number) =>
    `# HELP ${name}\n# TYPE ${name} gauge\n${name}{interface="wg0"} ${value}\n`;
  return [
    gauge('wireguard_configured_peers', configured),
    gauge('wireguard_enabled_peers', enabled),
    gauge('wireguard_connected_peers', 0),
  ].join('\n');
}

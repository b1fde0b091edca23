import { z } from 'zod';
import { parseSingleHost, printAddress } from '../address.ts';
import { parseEndpoint, printEndpoint } from '../client-config.ts';
import { DriverError, type InterfaceDescription } from '../driver.ts';
import type { HttpClient, HttpRequest } from './http-client.ts';
import { readJson } from './http-client.ts';
import {
  canonicalCidr,
  checkStatus,
  counterSchema,
  mutate,
  nameSchema,
  publicKeySchema,
  type RemoteClient,
  read,
  readText,
  timeSchema,
  type WgEasyProtocol,
} from './protocol.ts';
import { readServerPart } from './server-part.ts';
import { type Admission, type AuthScheme, findCookie, type Session } from './session.ts';

const CLIENTS = '/api/client';
const addressText = z.string().max(64);

const clientSchema = z
  .object({
    id: z.int().positive(),
    name: nameSchema,
    enabled: z.boolean(),
    ipv4Address: addressText,
    ipv6Address: addressText.nullish(),
    serverAllowedIps: z.array(addressText).max(512).nullish(),
    publicKey: publicKeySchema,
    createdAt: timeSchema,
    endpoint: z.unknown().transform(readSeenEndpoint),
    latestHandshakeAt: timeSchema,
    transferRx: counterSchema,
    transferTx: counterSchema,
  })
  .transform(
    (client): RemoteClient => ({
      id: String(client.id),
      name: client.name,
      publicKey: client.publicKey,
      addresses: [client.ipv4Address, client.ipv6Address ?? []].flat().map(canonicalCidr),
      extraAddresses: (client.serverAllowedIps ?? []).map(canonicalCidr),
      enabled: client.enabled,
      isLive: client.transferRx !== null,
      endpoint: client.endpoint,
      lastHandshakeAt: client.latestHandshakeAt,
      rxBytes: client.transferRx ?? 0,
      txBytes: client.transferTx ?? 0,
      createdAt: client.createdAt ?? '',
    }),
  );

function readSeenEndpoint(text: unknown): string | null {
  try {
    return printEndpoint(parseEndpoint(String(text ?? '')));
  } catch {
    return null;
  }
}

/** All that an update must carry, whatever changes. Their types are wg-easy's business: they go back as they came. */
const UPDATE_FIELDS = [
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
] as const;
type UpdateField = (typeof UPDATE_FIELDS)[number];

const updatableSchema = z.looseObject({ id: z.int().positive(), publicKey: publicKeySchema });
const createdSchema = z.object({ success: z.literal(true), clientId: z.int().positive() });
const interfaceSchema = z.object({ publicKey: publicKeySchema, port: z.int().min(1).max(65_535) });
const userConfigSchema = z.object({ host: z.string(), port: z.int() });

/** wg-easy 15, with its clients in a database. */
export class WgEasyV15 implements WgEasyProtocol {
  readonly version = 15;
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  list(signal: AbortSignal): Promise<RemoteClient[]> {
    const request: HttpRequest = { method: 'GET', path: CLIENTS, what: 'list' };
    return read(this.#session, { request, schema: z.array(clientSchema) }, signal);
  }

  async create(name: string, signal: AbortSignal): Promise<void> {
    const json = { name, expiresAt: null };
    const request: HttpRequest = { method: 'POST', path: CLIENTS, what: 'create', json };
    await read(this.#session, { request, schema: createdSchema }, signal);
  }

  /** A client that somebody gave an expiry, and that expired, is not enabled before that is taken away. */
  async enable(client: RemoteClient, signal: AbortSignal): Promise<void> {
    const path = `${CLIENTS}/${client.id}/enable`;
    try {
      await mutate(this.#session, { method: 'POST', path, what: 'enable' }, signal);
    } catch (error) {
      if (!(error instanceof DriverError) || error.code !== 'refused') throw error;
      await this.#update(client, { enabled: true, expiresAt: null }, signal);
    }
  }

  disable({ id }: RemoteClient, signal: AbortSignal): Promise<void> {
    return mutate(this.#session, { method: 'POST', path: `${CLIENTS}/${id}/disable`, what: 'disable' }, signal);
  }

  remove({ id }: RemoteClient, signal: AbortSignal): Promise<void> {
    return mutate(this.#session, { method: 'DELETE', path: `${CLIENTS}/${id}`, what: 'delete' }, signal);
  }

  async setAddresses(client: RemoteClient, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    const hosts = addresses.map(parseSingleHost);
    const [v4 = [], v6 = []] = [4, 6].map((family) => hosts.filter((host) => host.family === family));
    if (v4.length > 1 || v6.length > 1) {
      throw new DriverError('refused', 'wg-easy 15 gives each client one IPv4 and one IPv6 address');
    }
    const changes = {
      // What is routed to a peer beyond its own addresses is the traffic of somebody else.
      serverAllowedIps: [],
      ...(v4[0] === undefined ? {} : { ipv4Address: printAddress(v4[0]) }),
      ...(v6[0] === undefined ? {} : { ipv6Address: printAddress(v6[0]) }),
    };
    await this.#update(client, changes, signal);
  }

  configuration({ id }: RemoteClient, signal: AbortSignal): Promise<string> {
    const path = `${CLIENTS}/${id}/configuration`;
    return readText(this.#session, { method: 'GET', path, what: 'read a configuration' }, signal);
  }

  async describe(clients: readonly RemoteClient[], signal: AbortSignal): Promise<InterfaceDescription> {
    try {
      return await this.#describeAsAdmin(signal);
    } catch (error) {
      const [first] = clients;
      if (!(error instanceof DriverError) || error.code !== 'auth_failed' || first === undefined) throw error;
      // The user may see clients and not the interface.
      const description = readServerPart(await this.configuration(first, signal));
      if (description === undefined) throw error;
      return description;
    }
  }

  async #describeAsAdmin(signal: AbortSignal): Promise<InterfaceDescription> {
    const asked = { method: 'GET', what: 'describe' } as const;
    const { publicKey, port } = await read(
      this.#session,
      { request: { ...asked, path: '/api/admin/interface' }, schema: interfaceSchema },
      signal,
    );
    const user = await read(
      this.#session,
      { request: { ...asked, path: '/api/admin/userconfig' }, schema: userConfigSchema },
      signal,
    );
    const host = user.host.includes(':') && !user.host.startsWith('[') ? `[${user.host}]` : user.host;
    const endpoint = readSeenEndpoint(`${host}:${user.port}`);
    return { publicKey, listenPort: port, ...(endpoint === null ? {} : { endpoint }) };
  }

  /** Every field has to be sent, so they are read first. The answer holds private keys: only what must goes back. */
  async #update(
    { id, publicKey }: RemoteClient,
    changes: Partial<Record<UpdateField, unknown>>,
    signal: AbortSignal,
  ): Promise<void> {
    const path = `${CLIENTS}/${id}`;
    const request: HttpRequest = { method: 'GET', path, what: 'read a client' };
    const client = await read(this.#session, { request, schema: updatableSchema }, signal);
    if (client.publicKey !== publicKey) throw new DriverError('refused', 'another client has this id now');
    const json = Object.fromEntries(UPDATE_FIELDS.map((field) => [field, client[field] ?? null]));
    await mutate(this.#session, { method: 'POST', path, what: 'update', json: { ...json, ...changes } }, signal);
  }
}

const loginSchema = z.object({ status: z.string() });

export interface V15Credentials {
  readonly username: string;
  readonly password: string | undefined;
  /** A password for Basic authorization, when the login fails. */
  readonly apiKey: string | undefined;
}

export function v15Auth(http: HttpClient, { username, password, apiKey }: V15Credentials): AuthScheme {
  const header = apiKey === undefined ? undefined : basic(username, apiKey);
  // Without INSECURE the cookie is for https only. It is sent over http too, since that is how we were given it; should a
  // proxy in between drop it, Basic still works.
  const lastResort = header ?? (password === undefined ? undefined : basic(username, password));
  return {
    ...(password === undefined ? {} : { login: (signal) => logIn(http, { username, password }, signal) }),
    ...(header === undefined ? {} : { header }),
    ...(lastResort === undefined ? {} : { lastResort }),
    isLockedOut: async ({ status }) => status === 401,
  };
}

function basic(username: string, password: string): Admission {
  const value = Buffer.from(`${username}:${password}`).toString('base64');
  // The scheme is case-sensitive there.
  return { kind: 'header', headers: { authorization: `Basic ${value}` } };
}

async function logIn(
  http: HttpClient,
  { username, password }: { readonly username: string; readonly password: string },
  signal: AbortSignal,
): Promise<Admission> {
  const json = { username, password, remember: true };
  const request: HttpRequest = { method: 'POST', path: '/api/auth/password', what: 'log in', json, isRead: true };
  const answer = await http.send(request, signal);
  if (answer.status === 401) throw new DriverError('auth_failed', 'wg-easy refuses the user name or the password');
  checkStatus({ ...request, method: 'GET' }, answer);
  const { status } = readJson(request.what, answer, loginSchema);
  if (status === 'TOTP_REQUIRED' || status === 'INVALID_TOTP_CODE') {
    throw new DriverError(
      'auth_failed',
      'the user of wg-easy has a second factor: give this program a user without one',
    );
  }
  const cookie = findCookie(answer, 'wg-easy');
  if (status !== 'success' || cookie === undefined) {
    throw new DriverError('bad_answer', 'log in: wg-easy gave no cookie');
  }
  return { kind: 'cookie', headers: { cookie: `wg-easy=${cookie}` } };
}

import { z } from 'zod';
import { parseSingleHost, printAddress } from '../address.ts';
import { DriverError, type InterfaceDescription } from '../driver.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http-client.ts';
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

const CLIENTS = '/api/wireguard/client';

const clientSchema = z
  .object({
    id: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
    name: nameSchema,
    enabled: z.boolean(),
    address: z.string().max(64),
    publicKey: publicKeySchema,
    createdAt: timeSchema,
    latestHandshakeAt: timeSchema,
    transferRx: counterSchema,
    transferTx: counterSchema,
  })
  .transform(
    (client): RemoteClient => ({
      id: client.id,
      name: client.name,
      publicKey: client.publicKey,
      addresses: [canonicalCidr(client.address)],
      extraAddresses: [],
      enabled: client.enabled,
      isLive: client.transferRx !== null,
      // v14 does not tell.
      endpoint: null,
      lastHandshakeAt: client.latestHandshakeAt,
      rxBytes: client.transferRx ?? 0,
      txBytes: client.transferTx ?? 0,
      createdAt: client.createdAt ?? '',
    }),
  );

/** wg-easy 14, the last with its clients in a file. */
export class WgEasyV14 implements WgEasyProtocol {
  readonly version = 14;
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  list(signal: AbortSignal): Promise<RemoteClient[]> {
    const request: HttpRequest = { method: 'GET', path: CLIENTS, what: 'list' };
    return read(this.#session, { request, schema: z.array(clientSchema) }, signal);
  }

  create(name: string, signal: AbortSignal): Promise<void> {
    const request: HttpRequest = { method: 'POST', path: CLIENTS, what: 'create', json: { name }, isOnce: true };
    return mutate(this.#session, request, signal);
  }

  enable({ id }: RemoteClient, signal: AbortSignal): Promise<void> {
    return mutate(this.#session, { method: 'POST', path: `${CLIENTS}/${id}/enable`, what: 'enable' }, signal);
  }

  disable({ id }: RemoteClient, signal: AbortSignal): Promise<void> {
    return mutate(this.#session, { method: 'POST', path: `${CLIENTS}/${id}/disable`, what: 'disable' }, signal);
  }

  remove({ id }: RemoteClient, signal: AbortSignal): Promise<void> {
    return mutate(this.#session, { method: 'DELETE', path: `${CLIENTS}/${id}`, what: 'delete' }, signal);
  }

  async setAddresses({ id }: RemoteClient, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    const [only, ...others] = addresses.map(parseSingleHost);
    if (only?.family !== 4 || others.length > 0) {
      throw new DriverError('refused', 'wg-easy 14 gives each client exactly one IPv4 address');
    }
    // It stores `10.8.0.7/24`, `10.8.0.7x` and addresses of others too: nothing but a printed address is sent.
    const json = { address: printAddress(only) };
    const path = `${CLIENTS}/${id}/address`;
    await mutate(this.#session, { method: 'PUT', path, what: 'set the address', json }, signal);
  }

  configuration({ id }: Pick<RemoteClient, 'id'>, signal: AbortSignal): Promise<string> {
    const path = `${CLIENTS}/${id}/configuration`;
    return readText(this.#session, { method: 'GET', path, what: 'read a configuration' }, signal);
  }

  /**
   * v14 tells its own key only in the configurations of clients. Its lookup of a client goes through the prototype of the
   * table of clients, so there is one even on an empty host, without secrets, and no other way that spares the private keys.
   */
  async describe(clients: readonly RemoteClient[], signal: AbortSignal): Promise<InterfaceDescription> {
    for (const { id } of [...clients.slice(0, 1), { id: 'constructor' }]) {
      const config = await this.configuration({ id }, signal).catch(unlessMissing);
      const description = config === undefined ? undefined : readServerPart(config);
      if (description !== undefined) return description;
    }
    throw new DriverError('refused', 'wg-easy 14 tells its public key only once it has a client');
  }
}

/** The client may be gone meanwhile, or have a name that this version stumbles over. */
function unlessMissing(error: unknown): undefined {
  if (!(error instanceof DriverError) || error.code !== 'refused') throw error;
}

const sessionSchema = z.object({ requiresPassword: z.boolean(), authenticated: z.boolean() });

export interface V14Credentials {
  readonly password: string | undefined;
  /** Sent as it is in the Authorization header, when the login fails. */
  readonly apiKey: string | undefined;
}

export function v14Auth(http: HttpClient, { password, apiKey }: V14Credentials): AuthScheme {
  const header: Admission | undefined =
    apiKey === undefined ? undefined : { kind: 'header', headers: { authorization: apiKey } };
  return {
    ...(password === undefined ? {} : { login: (signal) => logIn(http, password, signal) }),
    ...(header === undefined ? {} : { header, lastResort: header }),
    isLockedOut: (answer, admission, signal) => isLockedOut(http, { answer, admission }, signal),
  };
}

async function logIn(http: HttpClient, password: string, signal: AbortSignal): Promise<Admission> {
  const request: HttpRequest = {
    method: 'POST',
    path: '/api/session',
    what: 'log in',
    json: { password },
    isRead: true,
  };
  const answer = await http.send(request, signal);
  if (answer.status === 401) {
    // Without a password of its own wg-easy lets everybody in and nobody log in.
    if ((await askSession(http, {}, signal)).authenticated) return { kind: 'cookie', headers: {} };
    throw new DriverError('auth_failed', 'wg-easy refuses the password');
  }
  checkStatus({ ...request, method: 'GET' }, answer);
  readJson(request.what, answer, z.object({ success: z.literal(true) }));
  const cookie = findCookie(answer, 'connect.sid');
  if (cookie === undefined) throw new DriverError('bad_answer', 'log in: wg-easy gave no cookie');
  return { kind: 'cookie', headers: { cookie: `connect.sid=${cookie}` } };
}

/** v14 answers 500 to whoever is not logged in, and to much else. */
async function isLockedOut(
  http: HttpClient,
  { answer, admission }: { readonly answer: HttpAnswer; readonly admission: Admission },
  signal: AbortSignal,
): Promise<boolean> {
  if (answer.status !== 500) return false;
  if (admission.kind === 'cookie') return !(await askSession(http, admission.headers, signal)).authenticated;
  // The session says nothing about headers.
  const probe = await http.send({ method: 'GET', path: CLIENTS, what: 'list', headers: admission.headers }, signal);
  return probe.status === 500;
}

async function askSession(
  http: HttpClient,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<z.infer<typeof sessionSchema>> {
  const request: HttpRequest = { method: 'GET', path: '/api/session', what: 'ask for the session', headers };
  const answer = await http.send(request, signal);
  checkStatus(request, answer);
  return readJson(request.what, answer, sessionSchema);
}

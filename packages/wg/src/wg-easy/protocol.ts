import { z } from 'zod';
import { parseHostCidr, printCidr } from '../address.ts';
import { DriverError, type InterfaceDescription } from '../driver.ts';
import type { PublicKey } from '../keys.ts';
import { type HttpAnswer, type HttpRequest, readJson } from './http-client.ts';
import type { Session } from './session.ts';

/** A client as wg-easy lists it. */
export interface RemoteClient {
  /** As it stands in paths: a UUID in v14, digits in v15. */
  readonly id: string;
  /** null when it is no text: v14 takes anything for a name. */
  readonly name: string | null;
  readonly publicKey: PublicKey;
  /** Its own addresses as single hosts, in canonical text where they can be read. */
  readonly addresses: readonly string[];
  /** What else is routed to it. v15 only. */
  readonly extraAddresses: readonly string[];
  /** What the list of clients says. */
  readonly enabled: boolean;
  /** Whether WireGuard has it now: counters come from there. Differs from `enabled` after races and failed syncs. */
  readonly isLive: boolean;
  readonly endpoint: string | null;
  readonly lastHandshakeAt: string | null;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** ISO text: which of two twins is older. */
  readonly createdAt: string;
}

/**
 * The API of one version of wg-easy, without any repair: each method is one exchange where that is possible, and what a
 * success means is left to the caller. Mutations must not run at the same time. All throw DriverErrors.
 */
export interface WgEasyProtocol {
  readonly version: 14 | 15;
  list(signal: AbortSignal): Promise<RemoteClient[]>;
  /** Neither version answers more than that it was done: look the client up by its name. */
  create(name: string, signal: AbortSignal): Promise<void>;
  enable(client: RemoteClient, signal: AbortSignal): Promise<void>;
  disable(client: RemoteClient, signal: AbortSignal): Promise<void>;
  remove(client: RemoteClient, signal: AbortSignal): Promise<void>;
  /** Single hosts, at most one a family. @throws DriverError `refused` for what this version cannot give */
  setAddresses(client: RemoteClient, addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** The wg-quick file, untrusted. */
  configuration(client: RemoteClient, signal: AbortSignal): Promise<string>;
  describe(clients: readonly RemoteClient[], signal: AbortSignal): Promise<InterfaceDescription>;
}

/** Host keys are only checked in form: a client that somebody imported may have one we would not take from a stranger. */
export const publicKeySchema = z
  .string()
  .regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/)
  .transform((key) => key as PublicKey);

/** null while the peer is not in WireGuard. */
export const counterSchema = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER).nullable();

/** Names are for comparing: an endless one is nobody's of ours. */
export const nameSchema = z.unknown().transform((name) => (typeof name === 'string' ? name.slice(0, NAME_MAX) : null));
const NAME_MAX = 256;

export const timeSchema = z.unknown().transform((text) => {
  const time = typeof text === 'string' ? new Date(text) : null;
  return time === null || Number.isNaN(time.getTime()) ? null : time.toISOString();
});

const doneSchema = z.object({ success: z.literal(true) });

/** Sends what changes something and is answered by `{"success":true}`. */
export async function mutate(session: Session, request: HttpRequest, signal: AbortSignal): Promise<void> {
  const answer = await session.send(request, signal);
  checkStatus(request, answer);
  readJson(request.what, answer, doneSchema);
}

/** Reads JSON of one shape. */
export async function read<T>(
  session: Session,
  { request, schema }: { readonly request: HttpRequest; readonly schema: z.ZodType<T> },
  signal: AbortSignal,
): Promise<T> {
  const answer = await session.send(request, signal);
  checkStatus(request, answer);
  return readJson(request.what, answer, schema);
}

/** Reads a text that is not HTML. */
export async function readText(session: Session, request: HttpRequest, signal: AbortSignal): Promise<string> {
  const answer = await session.send(request, signal);
  checkStatus(request, answer);
  if (!/^(?:text\/plain|application\/octet-stream)\b/.test(answer.contentType)) {
    throw new DriverError('bad_answer', `${request.what}: the answer is no text file`);
  }
  return answer.text;
}

/** A proxy in front of a wg-easy that is down answers with these. */
const GATEWAY_STATUSES: ReadonlySet<number> = new Set([502, 503, 504]);

/** Throws for every status but 200. A 5xx after a change says nothing about whether it was made. */
export function checkStatus({ method, what }: HttpRequest, { status }: HttpAnswer): void {
  if (status === 200) return;
  const message = `${what}: wg-easy answered ${status}`;
  if (status === 401 || status === 403) throw new DriverError('auth_failed', message);
  if (status < 500) throw new DriverError('refused', message);
  if (method !== 'GET') throw new DriverError('unknown_outcome', message);
  throw new DriverError(GATEWAY_STATUSES.has(status) ? 'unreachable' : 'refused', message);
}

/** A client may hold what the strict parser refuses, put there by hand. It is shown as it is. */
export function canonicalCidr(text: string): string {
  try {
    return printCidr(parseHostCidr(text));
  } catch {
    return text;
  }
}

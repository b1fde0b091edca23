import { randomId } from './random-id.ts';
import type { EventData, EventType } from './router.ts';

/** Standard Webhooks (https://www.standardwebhooks.com), `v1` signatures: HMAC-SHA-256 over `id.timestamp.body`. */

/** Raw bytes as they travel. Never a parsed and re-serialised body: that changes bytes. */
export type WebhookBody = string | Uint8Array | ArrayBuffer;

export interface SignWebhookOptions {
  /** `whsec_` and base64, or the base64 alone. */
  readonly secret: string;
  /** Names the message: the same id on every repeat of it. Must not contain a dot. Default: a new random one. */
  readonly id?: string;
  /** A `Date`, or whole seconds since 1970. Default: now. */
  readonly timestamp?: Date | number;
  readonly body: WebhookBody;
}

export interface WebhookHeaders {
  readonly 'webhook-id': string;
  readonly 'webhook-timestamp': string;
  readonly 'webhook-signature': string;
}

/** `Headers` of the fetch world, or Node's `request.headers`. Names are matched in any case. */
export type WebhookHeadersInput =
  | { get(name: string): string | null }
  | { readonly [name: string]: string | readonly string[] | undefined };

export type WebhookSecrets =
  | { readonly secret: string; readonly secrets?: never }
  /** Any of them is accepted, for rotation. */
  | { readonly secrets: readonly string[]; readonly secret?: never };

export type VerifyWebhookOptions = WebhookSecrets & {
  readonly headers: WebhookHeadersInput;
  readonly body: WebhookBody;
  /** Default: now. */
  readonly now?: Date;
  /** How far the timestamp may be off in either direction, in seconds. Default 300. */
  readonly toleranceSeconds?: number;
};

export interface VerifiedWebhook {
  /** The same for every repeat of one message: remember it and drop what was seen. */
  readonly id: string;
  readonly timestamp: Date;
}

export type WebhookRefusal =
  | 'missing_header'
  | 'invalid_id'
  | 'invalid_timestamp'
  | 'timestamp_too_old'
  | 'timestamp_too_new'
  | 'no_matching_signature';

/** Why a webhook was refused. Answer 401 and store nothing. */
export class WebhookVerificationError extends Error {
  readonly reason: WebhookRefusal;

  constructor(reason: WebhookRefusal) {
    super(`Webhook refused: ${reason}`);
    this.name = 'WebhookVerificationError';
    this.reason = reason;
  }
}

const DEFAULT_TOLERANCE_SECONDS = 300;
const SECRET_PREFIX = 'whsec_';

/** Makes the three headers to send with `body`. Throws `TypeError` for a secret that is not base64 or an id with a dot. */
export async function signWebhook(options: SignWebhookOptions): Promise<WebhookHeaders> {
  const id = options.id ?? `msg_${randomId()}`;
  if (!isWebhookId(id)) throw new TypeError('A webhook id is 1 to 255 printable characters without dots or spaces');
  const timestamp = secondsOf(options.timestamp ?? new Date());
  const signature = await signatureOf(options.secret, signedBytes(id, timestamp, options.body));
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature };
}

/**
 * Checks signature and age of a webhook. Throws `WebhookVerificationError` when it is not to be trusted, `TypeError`
 * when a secret of ours is malformed.
 */
export async function verifyWebhook(options: VerifyWebhookOptions): Promise<VerifiedWebhook> {
  const secrets = secretsOf(options);
  const id = headerOf(options.headers, 'webhook-id');
  const timestamp = headerOf(options.headers, 'webhook-timestamp');
  const signatures = headerOf(options.headers, 'webhook-signature');
  if (!isWebhookId(id)) throw new WebhookVerificationError('invalid_id');
  checkAge(timestamp, options);
  const signed = signedBytes(id, timestamp, options.body);
  const expected = await Promise.all(secrets.map((secret) => signatureOf(secret, signed)));
  if (!matchesAny(signatures.split(' '), expected)) throw new WebhookVerificationError('no_matching_signature');
  return { id, timestamp: new Date(Number(timestamp) * 1000) };
}

/**
 * One event of the server, by its type: checking `type` tells what `data` is. A newer server may send types that this
 * version does not know; answer those with 200 and ignore them.
 */
export type VpnApiEvent = {
  readonly [Type in EventType]: {
    /** The same for every repeat of this event: remember it and drop what was seen. */
    readonly id: string;
    readonly type: Type;
    /** When it happened: ISO-8601 UTC with milliseconds. */
    readonly timestamp: string;
    readonly data: EventData[Type];
  };
}[EventType];

/**
 * Verifies a webhook that the server sent and reads it. Throws `WebhookVerificationError` when it is not to be trusted,
 * `TypeError` when a secret of ours is malformed or a verified body is no event.
 */
export async function unwrapWebhook(options: VerifyWebhookOptions): Promise<VpnApiEvent> {
  const { id } = await verifyWebhook(options);
  const body = typeof options.body === 'string' ? options.body : new TextDecoder().decode(options.body);
  const event: unknown = JSON.parse(body);
  if (!isEventBody(event)) throw new TypeError('The webhook is authentic and no event of this server');
  // What is inside was made and signed by the server: its shape is the server's word.
  return { id, type: event.type, timestamp: event.timestamp, data: event.data } as VpnApiEvent;
}

interface EventBody {
  readonly type: string;
  readonly timestamp: string;
  readonly data: object;
}

function isEventBody(value: unknown): value is EventBody {
  if (typeof value !== 'object' || value === null) return false;
  const { type, timestamp, data } = value as Partial<Record<keyof EventBody, unknown>>;
  return typeof type === 'string' && typeof timestamp === 'string' && typeof data === 'object' && data !== null;
}

/** `webhooks.sign` for senders, `webhooks.verify` and `webhooks.unwrap` for receivers. WebCrypto only: Node, browsers and workers alike. */
export const webhooks = { sign: signWebhook, verify: verifyWebhook, unwrap: unwrapWebhook } as const;

/** A dot would let bytes wander between id, timestamp and body under the same signature. */
function isWebhookId(id: string): boolean {
  return /^[!-~]{1,255}$/.test(id) && !id.includes('.');
}

function secondsOf(timestamp: Date | number): string {
  const seconds = typeof timestamp === 'number' ? timestamp : Math.floor(timestamp.getTime() / 1000);
  if (!Number.isSafeInteger(seconds) || seconds < 0) throw new TypeError('A webhook timestamp is whole seconds');
  return String(seconds);
}

function secretsOf(options: WebhookSecrets): readonly string[] {
  const secrets = options.secrets ?? [options.secret];
  if (secrets.length === 0) throw new TypeError('At least one webhook secret is needed');
  return secrets;
}

function headerOf(headers: WebhookHeadersInput, name: string): string {
  const value = isHeaders(headers) ? headers.get(name) : plainHeader(headers, name);
  if (value === null || value === undefined || value === '') throw new WebhookVerificationError('missing_header');
  return value;
}

function isHeaders(headers: WebhookHeadersInput): headers is { get(name: string): string | null } {
  return typeof headers.get === 'function';
}

function plainHeader(headers: Exclude<WebhookHeadersInput, { get(name: string): string | null }>, name: string) {
  const values = Object.entries(headers)
    .filter(([key]) => key.toLowerCase() === name)
    .flatMap(([, value]) => value ?? []);
  // Two values for one header are a question without an answer: refuse rather than choose.
  return values.length === 1 ? values[0] : undefined;
}

function checkAge(
  timestamp: string,
  { now, toleranceSeconds = DEFAULT_TOLERANCE_SECONDS }: VerifyWebhookOptions,
): void {
  if (!/^\d{1,12}$/.test(timestamp)) throw new WebhookVerificationError('invalid_timestamp');
  const ageSeconds = Math.floor((now ?? new Date()).getTime() / 1000) - Number(timestamp);
  if (ageSeconds > toleranceSeconds) throw new WebhookVerificationError('timestamp_too_old');
  if (ageSeconds < -toleranceSeconds) throw new WebhookVerificationError('timestamp_too_new');
}

function signedBytes(id: string, timestamp: string, body: WebhookBody): Uint8Array<ArrayBuffer> {
  const head = new TextEncoder().encode(`${id}.${timestamp}.`);
  const bytes = bytesOf(body);
  const signed = new Uint8Array(head.length + bytes.length);
  signed.set(head);
  signed.set(bytes, head.length);
  return signed;
}

function bytesOf(body: WebhookBody): Uint8Array {
  if (typeof body === 'string') return new TextEncoder().encode(body);
  return body instanceof Uint8Array ? body : new Uint8Array(body);
}

async function signatureOf(secret: string, signed: Uint8Array<ArrayBuffer>): Promise<string> {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', keyBytesOf(secret), algorithm, false, ['sign']);
  const mac = new Uint8Array(await crypto.subtle.sign('HMAC', key, signed));
  return `v1,${btoa(String.fromCharCode(...mac))}`;
}

/** The message never repeats the secret. */
function keyBytesOf(secret: string): Uint8Array<ArrayBuffer> {
  const text = secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw new TypeError('A webhook secret is whsec_ and base64');
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Looks at every pair, so that the time taken does not tell which one came close. */
function matchesAny(candidates: readonly string[], expected: readonly string[]): boolean {
  let matches = 0;
  for (const candidate of candidates) {
    for (const signature of expected) matches += equalsInConstantTime(candidate, signature) ? 1 : 0;
  }
  return matches > 0;
}

function equalsInConstantTime(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index += 1) difference |= a.charCodeAt(index) ^ b.charCodeAt(index);
  return difference === 0;
}

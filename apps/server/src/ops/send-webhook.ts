import { OutboundError, type OutboundGuard } from '@vpn-api/wg';
import { Agent, request } from 'undici';
import { signWebhook, webhookKey } from '../crypto/standard-webhook.ts';
import type { Attempt } from '../domain/delivery.ts';
import { epochMs, type Instant } from '../domain/instant.ts';

/** A receiver that takes longer counts as failed; Standard Webhooks asks for 15 to 30 s. */
export const WEBHOOK_TIMEOUT_MS = 15_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** What a receiver answers is dropped, and not even read beyond this. */
const MAX_ANSWER_BYTES = 16 * 1024;

export interface Webhook {
  readonly url: string;
  /** The same for every repeat. No dots. */
  readonly id: string;
  /** Exactly these bytes are signed and sent. */
  readonly body: string;
  /** `whsec_…`, all of which sign. */
  readonly secrets: readonly string[];
  readonly now: Instant;
}

/** Sends signed webhooks to addresses that others chose: checked when the URL is read and again for what it resolves to. */
export class WebhookSender implements AsyncDisposable {
  readonly #guard: OutboundGuard;
  readonly #agent: Agent;
  readonly #timeoutMs: number;

  constructor(guard: OutboundGuard, timeoutMs = WEBHOOK_TIMEOUT_MS) {
    this.#guard = guard;
    this.#timeoutMs = timeoutMs;
    const timeouts = { headersTimeout: timeoutMs, bodyTimeout: timeoutMs };
    this.#agent = new Agent({ connect: guard.connector({ timeout: CONNECT_TIMEOUT_MS }), ...timeouts });
  }

  /** Never throws: whatever happens is an answer. Redirects are failures and are not followed. */
  async send(webhook: Webhook, signal: AbortSignal): Promise<Attempt> {
    try {
      this.#guard.check(webhook.url);
      return await this.#post(webhook, AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)]));
    } catch (error) {
      return { kind: 'failed', error: describe(error) };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  async #post(webhook: Webhook, signal: AbortSignal): Promise<Attempt> {
    const { statusCode, headers, body } = await request(webhook.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'vpn-api-webhooks', ...signedHeaders(webhook) },
      body: webhook.body,
      dispatcher: this.#agent,
      signal,
    });
    await body.dump({ limit: MAX_ANSWER_BYTES, signal }).catch(() => {});
    return judge(statusCode, headers['retry-after']);
  }
}

function signedHeaders({ id, body, secrets, now }: Webhook) {
  const timestamp = String(Math.floor(epochMs(now) / 1000));
  const signatures = secrets.map((secret) => signWebhook(webhookKey(secret), `${id}.${timestamp}.${body}`));
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') };
}

function judge(status: number, retryAfter: string | string[] | undefined): Attempt {
  if (status >= 200 && status <= 299) return { kind: 'delivered', status };
  if (status === 410) return { kind: 'gone', status };
  const seconds = typeof retryAfter === 'string' && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : undefined;
  return { kind: 'failed', status, error: `answered ${status}`, retryAfterSeconds: seconds };
}

/** In a few words, and nothing of what was sent or answered. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  if (error instanceof OutboundError) return error.message;
  if (error.cause instanceof OutboundError) return error.cause.message;
  if (error.name === 'TimeoutError') return 'no answer in time';
  if (error.name === 'AbortError') return 'stopped';
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return `not reached: ${code}`;
}

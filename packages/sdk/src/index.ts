import type { inferRouterInputs, inferRouterOutputs } from '@trpc/server';
import { type ApiClient, createApiClient, type VpnApiClientOptions } from './client.ts';
import type { AppRouter } from './router.ts';

/** What `createVpnApiClient` makes: `api.tariff.list.query(…)`, `api.payment.create.mutate(…)`, `api.$session`. */
export type VpnApiClient = ApiClient<AppRouter>;

/** Input of every procedure: `VpnApiInputs['payment']['create']`. */
export type VpnApiInputs = inferRouterInputs<AppRouter>;

/** Output of every procedure: `VpnApiOutputs['payment']['create']`. */
export type VpnApiOutputs = inferRouterOutputs<AppRouter>;

/**
 * Makes a client of a VPN API server. Every call rejects with a `VpnApiError`.
 *
 * @example
 * ```ts
 * const api = createVpnApiClient({ baseUrl: 'https://vpn.example.com', apiKey: process.env.VPN_API_KEY });
 * const tariffs = await api.tariff.list.query({ limit: 5 });
 * ```
 * @throws TypeError when more than one of `token`, `apiKey` and `storage` is given, or `baseUrl` is no URL
 */
export function createVpnApiClient(options: VpnApiClientOptions): VpnApiClient {
  return createApiClient<AppRouter>(options);
}

export type { CallContext } from './call-link.ts';
export type { RetryOptions, VpnApiClientOptions } from './client.ts';
export {
  type ClientErrorCode,
  isVpnApiError,
  toVpnApiError,
  VpnApiError,
  type VpnApiErrorCode,
  type VpnApiErrorDetails,
  type VpnApiIssue,
} from './errors.ts';
export { type PageInput, type PageOptions, paginate } from './paginate.ts';
export type { AppRouter, ErrorCode, EventData, EventType } from './router.ts';
export type { Credentials, TokensAnswer, VpnApiSession } from './session.ts';
export { memoryStorage, type SessionTokens, type TokenStorage, webStorage } from './storage.ts';
export {
  type ForwardTelegramUpdate,
  forwardTelegramPayments,
  isPaymentUpdate,
  type TelegramForwardingOptions,
  type TelegramPaymentsMiddleware,
  telegramPayments,
} from './telegram.ts';
export {
  type SignWebhookOptions,
  signWebhook,
  unwrapWebhook,
  type VerifiedWebhook,
  type VerifyWebhookOptions,
  type VpnApiEvent,
  verifyWebhook,
  type WebhookBody,
  type WebhookHeaders,
  type WebhookHeadersInput,
  type WebhookRefusal,
  type WebhookSecrets,
  WebhookVerificationError,
  webhooks,
} from './webhooks.ts';

/**
 * Every way a use case can say no. Codes are stable and shared with the SDK; HTTP status and public text live in
 * `api/error-table.ts`, where the compiler finds a code without a row.
 */
export type ErrorCode =
  | 'validation_failed'
  | 'malformed_json'
  | 'malformed_request'
  | 'password_too_short'
  | 'password_too_common'
  | 'tariff_required'
  | 'price_mismatch'
  | 'currency_not_sold'
  | 'return_url_not_allowed'
  | 'batch_too_large'
  | 'not_authenticated'
  | 'invalid_token'
  | 'invalid_credentials'
  | 'invalid_refresh_token'
  | 'invalid_signature'
  | 'not_allowed'
  | 'admin_required'
  | 'promotion_refused'
  | 'scope_required'
  | 'user_not_active'
  | 'no_active_subscription'
  | 'self_subscribe_disabled'
  | 'not_found'
  | 'user_not_found'
  | 'tariff_not_found'
  | 'peer_not_found'
  | 'config_not_found'
  | 'payment_not_found'
  | 'event_not_found'
  | 'period_not_found'
  | 'session_not_found'
  | 'api_key_not_found'
  | 'webhook_endpoint_not_found'
  | 'delivery_not_found'
  | 'server_not_found'
  | 'provider_not_found'
  | 'method_not_allowed'
  | 'email_taken'
  | 'identity_conflict'
  | 'last_admin'
  | 'tariff_exists'
  | 'tariff_in_use'
  | 'tariff_archived'
  | 'already_lifetime'
  | 'trial_not_for_sale'
  | 'trial_not_available'
  | 'trial_used'
  | 'nothing_to_extend'
  | 'period_over'
  | 'device_limit_reached'
  | 'key_conflict'
  | 'address_conflict'
  | 'client_keys_not_supported'
  | 'client_key_required'
  | 'private_key_not_stored'
  | 'too_many_open_payments'
  | 'payment_conflict'
  | 'payment_not_open'
  | 'event_not_open'
  | 'refund_not_supported'
  | 'nothing_to_refund'
  | 'server_exists'
  | 'server_from_settings'
  | 'server_has_peers'
  | 'server_owes_removals'
  | 'server_retired'
  | 'pool_in_use'
  | 'plan_not_accepted'
  | 'idempotency_in_progress'
  | 'request_timeout'
  | 'payload_too_large'
  | 'uri_too_long'
  | 'unsupported_media_type'
  | 'idempotency_key_reused'
  | 'rate_limited'
  | 'headers_too_large'
  | 'internal_error'
  | 'host_refused'
  | 'host_auth_failed'
  | 'host_interface_missing'
  | 'host_bad_answer'
  | 'provider_refused'
  | 'no_capacity'
  | 'overloaded'
  | 'peer_pending'
  | 'host_unreachable'
  | 'provider_unavailable'
  | 'unavailable';

/** One field that is wrong. `path` is dotted (`prices.0.amount`); `message` never repeats the submitted value. */
export interface ErrorIssue {
  readonly path: string;
  readonly message: string;
}

export interface DomainErrorOptions {
  readonly issues?: readonly ErrorIssue[];
  readonly retryAfterSeconds?: number;
  /** For the log only; never sent. */
  readonly internal?: string;
  readonly cause?: unknown;
}

/** A refusal with a stable code. `message` is for logs; what the caller reads comes from the error table. */
export class DomainError extends Error {
  readonly code: ErrorCode;
  readonly issues: readonly ErrorIssue[];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, options: DomainErrorOptions = {}) {
    super(options.internal ?? code, { cause: options.cause });
    this.name = 'DomainError';
    this.code = code;
    this.issues = options.issues ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** Says that one field of the input is wrong, for rules that no schema can express. */
export function invalidField(path: string, message: string): DomainError {
  return new DomainError('validation_failed', { issues: [{ path, message }] });
}

import type { TRPC_ERROR_CODE_KEY } from '@trpc/server';
import type { ErrorCode } from '../domain/errors.ts';

export interface ErrorRow {
  readonly status: number;
  /** What the caller reads. Existing clients match some of these word for word. */
  readonly detail: string;
}

/** The one table from a code to what leaves the server. */
export const errorTable = {
  validation_failed: { status: 400, detail: 'Invalid input' },
  malformed_json: { status: 400, detail: 'The body is not valid JSON' },
  password_too_short: { status: 400, detail: 'Password must be at least 8 characters' },
  password_too_common: { status: 400, detail: 'This password is too easy to guess' },
  tariff_required: { status: 400, detail: 'tariff_id is required: no single tariff has this price' },
  price_mismatch: { status: 400, detail: 'The amount differs from the price of the tariff' },
  currency_not_sold: { status: 400, detail: 'The tariff is not sold in this currency or through this provider' },
  return_url_not_allowed: { status: 400, detail: 'return_url is not on the list of allowed origins' },
  batch_too_large: { status: 400, detail: 'Too many calls in one batch' },
  not_authenticated: { status: 401, detail: 'Not authenticated' },
  invalid_token: { status: 401, detail: 'Could not validate credentials' },
  invalid_credentials: { status: 401, detail: 'Invalid credentials' },
  invalid_refresh_token: { status: 401, detail: 'Could not validate credentials' },
  invalid_signature: { status: 401, detail: 'The signature is missing, wrong or too old' },
  not_allowed: { status: 403, detail: 'Not allowed' },
  admin_required: { status: 403, detail: 'Admin privileges required' },
  promotion_refused: { status: 403, detail: 'Admin privileges required to promote' },
  scope_required: { status: 403, detail: 'The API key lacks the scope for this call' },
  user_not_active: { status: 403, detail: 'User not active' },
  no_active_subscription: { status: 403, detail: 'no_active_subscription' },
  self_subscribe_disabled: { status: 403, detail: 'Not allowed' },
  not_found: { status: 404, detail: 'Not Found' },
  user_not_found: { status: 404, detail: 'User not found' },
  tariff_not_found: { status: 404, detail: 'Tariff not found' },
  peer_not_found: { status: 404, detail: 'Peer not found' },
  config_not_found: { status: 404, detail: 'No peer found for user' },
  payment_not_found: { status: 404, detail: 'Payment not found' },
  event_not_found: { status: 404, detail: 'Event not found' },
  period_not_found: { status: 404, detail: 'Subscription period not found' },
  session_not_found: { status: 404, detail: 'Session not found' },
  api_key_not_found: { status: 404, detail: 'API key not found' },
  server_not_found: { status: 404, detail: 'Server not found' },
  provider_not_found: { status: 404, detail: 'Payment provider not found' },
  method_not_allowed: { status: 405, detail: 'Method Not Allowed' },
  email_taken: { status: 409, detail: 'Email already registered' },
  identity_conflict: { status: 409, detail: 'The identifiers belong to different users' },
  last_admin: { status: 409, detail: 'The last admin cannot be demoted, blocked or removed' },
  tariff_exists: { status: 409, detail: 'Tariff already exists' },
  tariff_in_use: { status: 409, detail: 'Tariff was sold and cannot be deleted; archive it instead' },
  tariff_archived: { status: 409, detail: 'Tariff is no longer sold' },
  already_lifetime: { status: 409, detail: 'The subscription never ends; there is nothing to add' },
  nothing_to_extend: { status: 409, detail: 'The user has no subscription to extend' },
  period_over: { status: 409, detail: 'The period is over or was revoked already' },
  device_limit_reached: { status: 409, detail: 'The device limit of the tariff is reached' },
  key_conflict: { status: 409, detail: 'This public key is in use' },
  address_conflict: { status: 409, detail: 'This address is not free' },
  client_keys_not_supported: { status: 409, detail: 'The server makes the keys on this host; send no public key' },
  client_key_required: { status: 409, detail: 'Send wg_public_key: this server never makes private keys' },
  private_key_not_stored: { status: 409, detail: 'The private key is with the client; ask with template=true' },
  too_many_open_payments: { status: 409, detail: 'Too many open payments; pay or wait for one of them' },
  payment_conflict: { status: 409, detail: 'A payment with this provider id exists' },
  payment_not_open: { status: 409, detail: 'The payment waits for no decision' },
  event_not_open: { status: 409, detail: 'The event waits for no decision' },
  idempotency_in_progress: { status: 409, detail: 'A call with this Idempotency-Key is still running' },
  payload_too_large: { status: 413, detail: 'The body is too large' },
  unsupported_media_type: { status: 415, detail: 'Unsupported Media Type' },
  idempotency_key_reused: { status: 422, detail: 'This Idempotency-Key was used with another body' },
  rate_limited: { status: 429, detail: 'Too many requests' },
  internal_error: { status: 500, detail: 'Internal Server Error' },
  host_refused: { status: 502, detail: 'The WireGuard host refused' },
  no_capacity: { status: 503, detail: 'No WireGuard server has a free address' },
  overloaded: { status: 503, detail: 'The server is busy' },
  peer_pending: { status: 503, detail: 'The WireGuard host has not answered yet' },
  unavailable: { status: 503, detail: 'The service is temporarily unavailable' },
} as const satisfies Record<ErrorCode, ErrorRow>;

const trpcCodeByStatus: Readonly<Record<number, TRPC_ERROR_CODE_KEY>> = {
  400: 'BAD_REQUEST',
  401: 'UNAUTHORIZED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_SUPPORTED',
  409: 'CONFLICT',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  422: 'UNPROCESSABLE_CONTENT',
  429: 'TOO_MANY_REQUESTS',
  500: 'INTERNAL_SERVER_ERROR',
  502: 'BAD_GATEWAY',
  503: 'SERVICE_UNAVAILABLE',
};

export function trpcCode(code: ErrorCode): TRPC_ERROR_CODE_KEY {
  return trpcCodeByStatus[errorTable[code].status] ?? 'INTERNAL_SERVER_ERROR';
}

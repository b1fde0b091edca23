import {
  findWebhookEndpoint,
  insertWebhookEndpoint,
  type LoggedDelivery,
  lastPosition,
  requeueWebhookDelivery,
  retryWebhookDeliveries,
  type Tx,
  updateWebhookEndpoint,
  type WebhookEndpointRow,
} from '@vpn-api/db';
import { OutboundError, OutboundGuard } from '@vpn-api/wg';
import { SECRET_OVERLAP_SECONDS } from '../domain/delivery.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import type { Committing } from './committing.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'random' | 'secretBox' | 'config' | 'outbox'>;

const SECRET_BYTES = 32;
const COLUMN = 'webhook_endpoints.secrets';

export interface EndpointInput {
  readonly url: string;
  readonly description: string | null;
  /** null: every type. */
  readonly types: readonly string[] | null;
}

/** An endpoint with the secret that is shown this once. */
export interface EndpointWithSecret {
  readonly row: WebhookEndpointRow;
  readonly secret: string;
}

/**
 * Adds a receiver. It gets what is published from now on; earlier events are in `GET /events`.
 * @throws DomainError `validation_failed` for a URL that must not be called
 */
export async function createWebhookEndpoint(
  deps: Deps,
  input: EndpointInput,
  { source, beforeCommit }: Committing<EndpointWithSecret>,
): Promise<EndpointWithSecret> {
  checkUrl(deps, input.url);
  const secret = newSecret(deps);
  const now = deps.clock.now();
  return deps.store.transaction(async (tx) => {
    const position = await lastPosition(tx);
    const unsealed = await insertWebhookEndpoint(tx, { ...input, secrets_sealed: '', position, created_at: now });
    const row = await saveSecrets(deps, tx, unsealed.id, [secret]);
    await note(tx, { source, now, action: 'create', id: row.id, details: { url: row.url, types: row.types } });
    await beforeCommit(tx, { row, secret });
    return { row, secret };
  });
}

export interface EndpointChange {
  readonly url?: string | undefined;
  readonly description?: string | null | undefined;
  readonly types?: readonly string[] | null | undefined;
  /** false lets an endpoint go on that was disabled, by a person or by its own 410. */
  readonly disabled?: boolean | undefined;
}

interface ByAdmin {
  readonly id: number;
  readonly source: AuditSource;
}

/** @throws DomainError `webhook_endpoint_not_found`, `validation_failed` */
export async function updateWebhookEndpointBy(
  deps: Deps,
  { id, source, change }: ByAdmin & { readonly change: EndpointChange },
): Promise<WebhookEndpointRow> {
  const { url, description, types, disabled } = change;
  if (url !== undefined) checkUrl(deps, url);
  const now = deps.clock.now();
  // What waited for the old address, or while nothing was sent, is due now and has its day before it.
  const isAnew = url !== undefined || disabled === false;
  return deps.store.transaction(async (tx) => {
    const patch = {
      ...(url === undefined ? {} : { url }),
      ...(isAnew ? { failing_since: null } : {}),
      ...(description === undefined ? {} : { description }),
      ...(types === undefined ? {} : { types }),
      ...(disabled === undefined ? {} : disabledColumns(disabled, now)),
    };
    await find(tx, id);
    const row = Object.keys(patch).length === 0 ? await find(tx, id) : await updateWebhookEndpoint(tx, id, patch);
    if (row === undefined) throw new DomainError('webhook_endpoint_not_found');
    if (isAnew) await retryWebhookDeliveries(tx, id);
    await note(tx, { source, now, action: 'update', id, details: { ...change } });
    tx.onCommit(() => deps.outbox.wake());
    return row;
  });
}

function disabledColumns(disabled: boolean, now: Instant) {
  return disabled ? { disabled_at: now, disabled_reason: 'by an admin' } : { disabled_at: null, disabled_reason: null };
}

/** @throws DomainError `webhook_endpoint_not_found` */
export async function removeWebhookEndpoint(deps: Deps, { id, source }: ByAdmin): Promise<void> {
  const now = deps.clock.now();
  await deps.store.transaction(async (tx) => {
    if ((await updateWebhookEndpoint(tx, id, { removed_at: now })) === undefined) {
      throw new DomainError('webhook_endpoint_not_found');
    }
    await note(tx, { source, now, action: 'remove', id });
  });
}

/**
 * Gives an endpoint a new secret. The last one signs beside it for a day, so that a receiver can change over.
 * @throws DomainError `webhook_endpoint_not_found`
 */
export async function rotateWebhookSecret(
  deps: Deps,
  { id, source }: ByAdmin,
  beforeCommit: (tx: Tx, rotated: EndpointWithSecret) => Promise<void>,
): Promise<EndpointWithSecret> {
  const secret = newSecret(deps);
  const now = deps.clock.now();
  return deps.store.transaction(async (tx) => {
    const [current = ''] = endpointSecrets(deps, await find(tx, id));
    await saveSecrets(deps, tx, id, [secret, current]);
    const row = await updateWebhookEndpoint(tx, id, { old_secret_until: addSeconds(now, SECRET_OVERLAP_SECONDS) });
    if (row === undefined) throw new DomainError('webhook_endpoint_not_found');
    await note(tx, { source, now, action: 'rotate_secret', id });
    await beforeCommit(tx, { row, secret });
    return { row, secret };
  });
}

/**
 * Sends a delivery again, under the same id as before.
 * @throws DomainError `webhook_endpoint_not_found`, `delivery_not_found`
 */
export async function redeliverWebhook(
  deps: Deps,
  { id, source, deliveryId }: ByAdmin & { readonly deliveryId: number },
): Promise<LoggedDelivery> {
  const now = deps.clock.now();
  return deps.store.transaction(async (tx) => {
    await find(tx, id);
    const delivery = await requeueWebhookDelivery(tx, { endpointId: id, deliveryId });
    if (delivery === undefined) throw new DomainError('delivery_not_found');
    await note(tx, { source, now, action: 'redeliver', id, details: { delivery_id: deliveryId } });
    tx.onCommit(() => deps.outbox.wake());
    return delivery;
  });
}

/** What signs for an endpoint now: its secret, and the one before while that still counts. Newest first. */
export function signingSecrets(
  deps: Pick<Services, 'secretBox'>,
  row: WebhookEndpointRow,
  now: string,
): readonly string[] {
  const secrets = endpointSecrets(deps, row);
  return row.old_secret_until !== null && now < row.old_secret_until ? secrets : secrets.slice(0, 1);
}

function endpointSecrets({ secretBox }: Pick<Services, 'secretBox'>, row: WebhookEndpointRow): readonly string[] {
  return JSON.parse(secretBox.open({ column: COLUMN, rowId: row.id }, row.secrets_sealed)) as string[];
}

/** The row's id is part of what is sealed, so the row is there first. */
async function saveSecrets(
  { secretBox }: Pick<Services, 'secretBox'>,
  tx: Tx,
  rowId: number,
  secrets: readonly string[],
): Promise<WebhookEndpointRow> {
  const sealed = secretBox.seal({ column: COLUMN, rowId }, JSON.stringify(secrets));
  const row = await updateWebhookEndpoint(tx, rowId, { secrets_sealed: sealed });
  if (row === undefined) throw new DomainError('webhook_endpoint_not_found');
  return row;
}

function newSecret({ random }: Pick<Services, 'random'>): string {
  return `whsec_${Buffer.from(random.bytes(SECRET_BYTES)).toString('base64')}`;
}

/** In production a receiver in the open is called over TLS; one in the operator's own listed network need not be. */
function checkUrl({ config }: Pick<Services, 'config'>, text: string): void {
  const url = readUrl(new OutboundGuard(config.outboundAllow), text);
  if (url.protocol === 'https:' || config.environment !== 'production') return;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isListed = new OutboundGuard(config.outboundAllow).isAllowed(host) && !new OutboundGuard([]).isAllowed(host);
  if (!isListed) throw invalidField('url', 'must be https');
}

function readUrl(guard: OutboundGuard, text: string): URL {
  try {
    return guard.check(text);
  } catch (error) {
    if (error instanceof OutboundError) throw invalidField('url', error.message);
    throw error;
  }
}

async function find(tx: Tx, id: number): Promise<WebhookEndpointRow> {
  const row = await findWebhookEndpoint(tx, id);
  if (row === undefined) throw new DomainError('webhook_endpoint_not_found');
  return row;
}

interface Note {
  readonly source: AuditSource;
  readonly now: string;
  readonly action: string;
  readonly id: number;
  readonly details?: Readonly<Record<string, unknown>>;
}

async function note(tx: Tx, { source, now, action, id, details }: Note): Promise<void> {
  const target = `webhook_endpoint:${id}`;
  await audit(tx, { ...source, at: now, action: `webhook_endpoint.${action}`, target, details });
}

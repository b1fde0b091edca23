import {
  type DueDelivery,
  findHeadDelivery,
  findWebhookEndpoint,
  insertWebhookDeliveries,
  leaseWebhookEndpoint,
  listPublishedEvents,
  recordAttempt,
  releaseWebhookEndpoint,
  type Store,
  updateWebhookEndpoint,
  type WebhookDeliveryPatch,
  type WebhookEndpointPatch,
  type WebhookEndpointRow,
} from '@vpn-api/db';
import { type Attempt, nextDeliveryAt } from '../domain/delivery.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { WEBHOOK_TIMEOUT_MS, type WebhookSender } from './send-webhook.ts';
import { signingSecrets } from './webhook-endpoints.ts';

export type DeliverDeps = Pick<Services, 'store' | 'clock' | 'secretBox' | 'log' | 'metrics'> & {
  /** Names this run of this process. */
  readonly instanceId: string;
  readonly sender: Pick<WebhookSender, 'send'>;
};

/** Outlives one attempt, so that nobody else sends the same event while it is under way. */
const LEASE_SECONDS = 2 * (WEBHOOK_TIMEOUT_MS / 1000);
/** How many events are made into deliveries at a time. */
const BATCH = 200;

/**
 * Sends an endpoint what it has not had yet, one event after another in the public order, until one fails or none is
 * left. No transaction is open while a receiver is asked. Answers when there is more to do; undefined when there is not.
 */
export async function deliverToEndpoint(
  deps: DeliverDeps,
  endpointId: number,
  signal: AbortSignal,
): Promise<Instant | undefined> {
  const { store, clock, instanceId } = deps;
  const idle = await whenIdle(store, endpointId, clock.now());
  if (idle !== undefined) return idle.until;
  try {
    while (!signal.aborted) {
      const now = clock.now();
      const lease = { endpointId, owner: instanceId, now, until: addSeconds(now, LEASE_SECONDS) };
      const endpoint = await findWebhookEndpoint(store, endpointId);
      if (endpoint === undefined || endpoint.disabled_at !== null) return undefined;
      if (!(await leaseWebhookEndpoint(store, lease))) return addSeconds(now, LEASE_SECONDS);
      const hasMore = await queueDeliveries(store, endpoint, now);
      const head = await findHeadDelivery(store, endpointId);
      if (head === undefined && !hasMore) return undefined;
      if (head === undefined) continue;
      if (head.next_attempt_at !== null && head.next_attempt_at > now) return head.next_attempt_at as Instant;
      await attempt(deps, endpoint, head, signal);
    }
    return undefined;
  } finally {
    await releaseWebhookEndpoint(store, endpointId, instanceId);
  }
}

/** Every few seconds somebody looks; while there is nothing to do that must not cost a write. */
async function whenIdle(
  store: Store,
  endpointId: number,
  now: Instant,
): Promise<{ readonly until: Instant | undefined } | undefined> {
  const endpoint = await findWebhookEndpoint(store, endpointId);
  if (endpoint === undefined) return { until: undefined };
  const [news] = await listPublishedEvents(store, {}, { after: endpoint.position, limit: 1 });
  if (news !== undefined) return undefined;
  const head = await findHeadDelivery(store, endpointId);
  if (head === undefined) return { until: undefined };
  const dueAt = head.next_attempt_at as Instant | null;
  return dueAt !== null && dueAt > now ? { until: dueAt } : undefined;
}

/** Makes deliveries of events that the endpoint's cursor has not passed yet; true when there may be more of them. */
async function queueDeliveries(store: Store, endpoint: WebhookEndpointRow, now: Instant): Promise<boolean> {
  const waiting = await listPublishedEvents(store, {}, { after: endpoint.position, limit: BATCH });
  const last = waiting.at(-1);
  if (last === undefined) return false;
  const wanted = waiting.filter(({ type }) => endpoint.types === null || endpoint.types.includes(type));
  await store.transaction(async (tx) => {
    const eventIds = wanted.map(({ id }) => id);
    if (eventIds.length > 0) await insertWebhookDeliveries(tx, { endpointId: endpoint.id, eventIds, at: now });
    await updateWebhookEndpoint(tx, endpoint.id, { position: last.position });
  });
  return waiting.length === BATCH;
}

async function attempt(
  deps: DeliverDeps,
  endpoint: WebhookEndpointRow,
  delivery: DueDelivery,
  signal: AbortSignal,
): Promise<void> {
  const now = deps.clock.now();
  const result = await deps.sender.send(
    {
      url: endpoint.url,
      id: `evt_${delivery.position}`,
      body: eventBody(delivery),
      secrets: signingSecrets(deps, endpoint, now),
      now,
    },
    signal,
  );
  // Stopped by us: the attempt says nothing about the receiver, which may well have it.
  if (signal.aborted && result.kind === 'failed') return;
  await record(deps, { endpoint, delivery, result });
}

/** Written from the stored text: a repeat sends the very bytes of the first attempt. */
function eventBody({ type, payload, event_created_at }: DueDelivery): string {
  return `{"type":${JSON.stringify(type)},"timestamp":${JSON.stringify(event_created_at)},"data":${payload}}`;
}

interface Attempted {
  readonly endpoint: WebhookEndpointRow;
  readonly delivery: DueDelivery;
  readonly result: Attempt;
}

/** Unless the lease was lost and another process knows better by now. */
async function record(deps: DeliverDeps, attempted: Attempted): Promise<void> {
  const { store, metrics } = deps;
  const { endpoint, delivery } = attempted;
  const { outcome, patch, endpointPatch } = judge(attempted, deps.clock.now());
  const isRecorded = await store.transaction(async (tx) => {
    if (!(await recordAttempt(tx, delivery, patch))) return false;
    if (endpointPatch !== undefined) await updateWebhookEndpoint(tx, endpoint.id, endpointPatch);
    return true;
  });
  if (!isRecorded) return;
  metrics.countDelivery(outcome);
  report(deps, attempted, outcome);
}

interface Judgement {
  readonly outcome: 'delivered' | 'gone' | 'failed' | 'dead';
  readonly patch: WebhookDeliveryPatch;
  readonly endpointPatch?: WebhookEndpointPatch;
}

function judge({ endpoint, delivery, result }: Attempted, now: Instant): Judgement {
  const last_status = result.status ?? null;
  if (result.kind === 'delivered') {
    const patch = {
      status: 'delivered',
      last_status,
      last_error: null,
      delivered_at: now,
      next_attempt_at: null,
    } as const;
    return { outcome: 'delivered', patch, ...(endpoint.failing_since === null ? {} : { endpointPatch: working }) };
  }
  if (result.kind === 'gone') {
    const endpointPatch = { disabled_at: now, disabled_reason: 'answered 410 Gone' };
    return { outcome: 'gone', patch: { last_status, last_error: 'answered 410' }, endpointPatch };
  }
  const failing_since = endpoint.failing_since ?? now;
  const next_attempt_at = nextDeliveryAt({
    attempts: delivery.attempts + 1,
    now,
    waitingSince: delivery.created_at,
    failingSince: failing_since,
    retryAfterSeconds: result.retryAfterSeconds,
  });
  const isDead = next_attempt_at === undefined;
  const status = isDead ? 'dead' : 'pending';
  const patch = { status, last_status, last_error: result.error, next_attempt_at: next_attempt_at ?? null } as const;
  return { outcome: isDead ? 'dead' : 'failed', patch, endpointPatch: { failing_since } };
}

const working = { failing_since: null };

/** What a person must hear of. */
function report({ log }: DeliverDeps, { endpoint, delivery }: Attempted, outcome: Judgement['outcome']): void {
  if (outcome === 'gone') log.warn({ endpoint: endpoint.id }, 'a webhook endpoint answered 410 and is disabled');
  if (outcome !== 'dead') return;
  log.error(
    { endpoint: endpoint.id, delivery: delivery.id },
    'an event could not be delivered for a day and is given up',
  );
}
